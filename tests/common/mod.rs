//! What the black-box tests stand on: the program in an environment of its own, and nothing of the machine's.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod mysql;
pub mod orders;
pub mod output;
pub mod postgres;
pub mod tree;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub use output::{Field, Output};

/// As `init` makes one: such a password needs no costly derivation, which every command of every test would pay for.
pub const REPOSITORY_PASSWORD: &str = "6a7e1d0c5b9f48e2a3d6c1f07b8e94d25c3a0f6e1b7d82945f0ce3a1b6d98274";

/// A machine of its own in a temporary directory: home, temporary files, policies, state, primary and DR site.
pub struct World {
    root: TempDir,
    program: PathBuf,
    user: Option<u32>,
    environment: Vec<(OsString, OsString)>,
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("lifeboat-test-").tempdir().unwrap();
        for directory in ["home", "tmp", "primary"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        let program = PathBuf::from(env!("CARGO_BIN_EXE_lifeboat"));
        Self { root, program, user: None, environment: Vec::new() }
    }

    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(relative)
    }

    pub fn policies(&self) -> PathBuf {
        self.path("policies")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn primary(&self) -> PathBuf {
        self.path("primary")
    }

    pub fn dr(&self) -> PathBuf {
        self.path("dr")
    }

    pub fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    /// Sets a variable for every command that follows.
    pub fn set_variable(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.environment.push((name.into(), value.as_ref().to_owned()));
    }

    /// Forgets the variables set so far.
    pub fn clear_variables(&mut self) {
        self.environment.clear();
    }

    /// Gives everything to an unprivileged user and runs the commands that follow as that user. Root only.
    pub fn hand_over(&mut self, user: u32) {
        let program = self.path("lifeboat");
        if fs::hard_link(&self.program, &program).is_err() {
            fs::copy(&self.program, &program).unwrap();
        }
        let status = Command::new("chown").arg("-Rh").arg(user.to_string()).arg(self.root.path()).status().unwrap();
        assert!(status.success());
        // The program may be one more name of the shared build; it goes back to root.
        std::os::unix::fs::chown(&program, Some(0), None).unwrap();
        self.program = program;
        self.user = Some(user);
    }

    /// The program with `--policies` and `--state`, ready to be spawned.
    pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = self.bare_command();
        command.arg("--policies").arg(self.policies()).arg("--state").arg(self.state()).args(arguments);
        command
    }

    /// The program without any argument.
    pub fn bare_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("TMPDIR", self.tmp()).env("LC_ALL", "C.UTF-8");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.root.path()).stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs the program and waits for it.
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Output {
        Output::of(self.command(arguments))
    }

    /// Writes the policy of `system`.
    pub fn write_policy(&self, system: &str, text: &str) -> PathBuf {
        fs::create_dir_all(self.policies().join("scripts")).unwrap();
        let path = self.policies().join(format!("{system}.toml"));
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a recovery script beside the policies.
    pub fn write_script(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.policies().join("scripts").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The head of a policy for this world: system, objectives, both sites and a password file (made when missing).
    pub fn policy_head(&self, system: &str, objectives: &str) -> String {
        let password = self.password_file();
        if !password.exists() {
            fs::write(&password, format!("{REPOSITORY_PASSWORD}\n")).unwrap();
        }
        format!(
            "system = \"{system}\"\ntimezone = \"UTC\"\nobjectives = {objectives}\n\n[primary]\nprovider = \"local\"\n\n\
             [dr]\nprovider = \"local\"\npath = \"{}\"\nrepository_password = \"file:{}\"\n\n",
            self.dr().display(),
            password.display(),
        )
    }

    /// Where [`World::policy_head`] keeps the repository's password: outside of policies and state.
    pub fn password_file(&self) -> PathBuf {
        self.path("repository.password")
    }

    /// A policy with one `files` source on the primary directory.
    pub fn write_files_policy(&self, system: &str) {
        let head = self.policy_head(system, "{ rpo = \"1h\", rto = \"15m\" }");
        let primary = self.primary();
        self.write_policy(
            system,
            &format!("{head}[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{}\"]\n", primary.display()),
        );
    }

    /// restic on this world's repository.
    pub fn restic<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Output {
        Output::of(self.restic_command(arguments))
    }

    /// As [`World::restic`], ready to be spawned.
    pub fn restic_command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = Command::new("restic");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.path("home"));
        command.env("TMPDIR", self.tmp()).arg("--no-cache").arg("--repo").arg(self.dr().join("repository"));
        command.arg("--password-file").arg(self.password_file()).args(arguments).stdin(Stdio::null());
        command
    }

    /// The points of a system, oldest first.
    pub fn points(&self, system: &str) -> Vec<Value> {
        let mut points = self.run(["points", system, "--json"]).expect(0).list("points");
        points.sort_by_key(|point| point["available_time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
        points
    }

    /// The id of the newest point of a source.
    pub fn newest_point(&self, system: &str, source: &str) -> String {
        let points = self.points(system);
        let newest = points.iter().rfind(|point| point["source"] == source);
        newest.unwrap_or_else(|| panic!("{source} has a point")).text("id")
    }

    /// Restores one source into a new directory below this world and gives that directory.
    pub fn restore_source(&self, system: &str, source: &str, name: &str) -> PathBuf {
        let target = self.path(name);
        let _ = self.run(["restore", system, "--source", source, "--to", target.to_str().unwrap()]).expect(0);
        target
    }
}

pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Whether root may pass through directories that are closed to others as another user: some containers take that away
/// (`CAP_DAC_READ_SEARCH`, bit 2 of what /proc/self/status lists).
pub fn may_pass_closed_directories() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() & (1 << 2) != 0
}

/// Whether the tests that take hours were asked for.
pub fn is_long() -> bool {
    std::env::var_os("LIFEBOAT_LONG").is_some()
}

/// Says why a test does nothing here; straight to stderr, since the test harness hides what a passing test prints.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// Waits until something is true, at most a minute.
pub fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is_true() {
        assert!(begin.elapsed().as_secs() < 60, "{what} does not happen");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Bytes of all files below a directory.
pub fn directory_bytes(directory: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        bytes += if metadata.is_dir() { directory_bytes(&entry.path()) } else { metadata.len() };
    }
    bytes
}

/// All regular files below a directory.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(files_below(&entry.path())),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files.sort();
    files
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
