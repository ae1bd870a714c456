//! What happens to a shop between two backups: pages edited, a release deployed, logs rotated, blocks written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;

use super::content::{Seed, log_line, source_text};
use super::place::Place;
use super::sample::{IMAGE_BYTES, ROTATED_LOGS, WEB_APPLICATIONS, small_file, write_checksums};
use super::war::web_archive;
use crate::ground::failure::{OrFail, Result};

const EDITED_FILES: u64 = 40;
const ADDED_FILES: u64 = 20;
const LOG_LINES: u32 = 4_000;

/// What was changed, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The web application that was released anew.
    pub released: &'static str,
    /// Small files edited or added.
    pub files: u64,
}

/// Changes the sample system; every call changes something else.
pub fn make(place: &Place, now: Timestamp) -> Result<Changes> {
    let mut seed = Seed::new(now.as_nanosecond() as u64);
    edit_files(&place.webapp(), &mut seed, now).or_fail(|| format!("cannot change {}", place.webapp().display()))?;
    let released = release(&place.webapp(), &mut seed)?;
    rotate_logs(&place.logs(), &mut seed, now).or_fail(|| format!("cannot rotate {}", place.logs().display()))?;
    write_blocks(&place.disk_image(), &mut seed)
        .or_fail(|| format!("cannot write {}", place.disk_image().display()))?;
    Ok(Changes { released, files: EDITED_FILES + ADDED_FILES })
}

fn edit_files(webapp: &Path, seed: &mut Seed, now: Timestamp) -> io::Result<()> {
    for _ in 0..EDITED_FILES {
        // Numbers divisible by four are the style sheets.
        let path = webapp.join(small_file(seed.below(700) * 4, "css"));
        let text = source_text(seed, "css", 30);
        OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())?;
    }
    let folder = webapp.join(format!("static/campaign-{}", now.as_millisecond()));
    fs::create_dir_all(&folder)?;
    for number in 0..ADDED_FILES {
        fs::write(folder.join(format!("offer-{number:02}.html")), source_text(seed, "html", 40))?;
    }
    match fs::remove_file(webapp.join(small_file(2_800 + seed.below(50) * 4 + 1, "js"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Deploys a new version of one web application.
fn release(webapp: &Path, seed: &mut Seed) -> Result<&'static str> {
    let (name, kibibytes) = WEB_APPLICATIONS[seed.below(WEB_APPLICATIONS.len() as u64) as usize];
    let path = webapp.join(format!("deployment/{name}.war"));
    let war = web_archive(name, seed, kibibytes * 1024);
    fs::write(&path, war).or_fail(|| format!("cannot write {}", path.display()))?;
    write_checksums(webapp)?;
    Ok(name)
}

/// As logrotate does it: every log moves on by one, the oldest goes, a new one begins.
fn rotate_logs(logs: &Path, seed: &mut Seed, now: Timestamp) -> io::Result<()> {
    for age in (1..=ROTATED_LOGS).rev() {
        let newer = if age == 1 { logs.join("app.log") } else { logs.join(format!("app.log.{}", age - 1)) };
        match fs::rename(newer, logs.join(format!("app.log.{age}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let time = format!("{now:.3}");
    let text: String = (0..LOG_LINES).map(|_| log_line(seed, &time)).collect();
    fs::write(logs.join("app.log"), text)
}

fn write_blocks(image: &Path, seed: &mut Seed) -> io::Result<()> {
    let file = File::options().write(true).open(image)?;
    for _ in 0..3 {
        let block = 1 + seed.below((IMAGE_BYTES >> 20) - 1);
        file.write_all_at(&seed.bytes(128 << 10), block << 20)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::cli::quickstart::sample;

    #[test]
    fn the_shop_stays_whole_and_keeps_its_number_of_logs() {
        let directory = tempfile::tempdir().unwrap();
        let (place, _) = Place::claim(directory.path()).unwrap();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        sample::make(&place, now, false).unwrap();
        let before = fs::read(place.logs().join("app.log")).unwrap();
        let changes = make(&place, now).unwrap();
        assert_eq!(fs::read(place.logs().join("app.log.1")).unwrap(), before);
        assert_eq!(fs::read_dir(place.logs()).unwrap().count(), 5);
        assert!(WEB_APPLICATIONS.iter().any(|(name, _)| *name == changes.released));
        assert_eq!(fs::metadata(place.disk_image()).unwrap().len(), IMAGE_BYTES);
        let script = place.policies().join("scripts/verify-orders.sh");
        let output = Command::new("sh").arg(script).current_dir(place.primary()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
