//! SeaweedFS, all of it in one process on the loopback, empty at the start, gone with the process of the tests.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use tempfile::TempDir;

pub const ACCESS: &str = "testaccesskey";
pub const SECRET: &str = "testsecretkey-not-to-be-shown";
const VERSION: &str = "4.48";

/// A running server.
pub struct Server {
    pub port: u16,
    /// Its end is the server's: it reads from us until we are gone.
    _guard: Child,
    _directory: TempDir,
    runtime: tokio::runtime::Runtime,
    pub client: Client,
}

/// The server of this test process, started at the first call.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        for _ in 0..3 {
            if let Some(server) = Server::start() {
                return server;
            }
        }
        panic!("the S3 server does not start");
    })
}

fn program() -> PathBuf {
    let given = std::env::var_os("LIFEBOAT_WEED").map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/tools/seaweedfs-{VERSION}/weed"));
    let program = given.unwrap_or(installed);
    assert!(
        program.is_file(),
        "{} is missing: scripts/test installs the S3 server that these tests need",
        program.display()
    );
    program
}

fn free_ports() -> Vec<u16> {
    let held: Vec<TcpListener> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

impl Server {
    fn start() -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("lifeboat-s3-").tempdir().unwrap();
        let root = directory.path().display().to_string();
        let identities = format!(
            r#"{{"identities":[{{"name":"tests","credentials":[{{"accessKey":"{ACCESS}","secretKey":"{SECRET}"}}],
            "actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        fs::write(directory.path().join("s3.json"), identities).unwrap();
        let ports = free_ports();
        let mut arguments = vec![
            "server".to_owned(),
            format!("-dir={root}"),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-filer".to_owned(),
            "-s3".to_owned(),
            format!("-s3.config={root}/s3.json"),
            "-master.telemetry=false".to_owned(),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            "-master.volumeSizeLimitMB=64".to_owned(),
            "-volume.max=200".to_owned(),
        ];
        let names = ["master.port", "volume.port", "filer.port", "s3.port"];
        for (name, pair) in names.iter().zip(ports.chunks(2)) {
            arguments.push(format!("-{name}={}", pair[0]));
            arguments.push(format!("-{name}.grpc={}", pair[1]));
        }
        let guard = Command::new("/bin/sh")
            .arg("-c")
            .arg("\"$@\" >/dev/null 2>&1 </dev/null & weed=$!; cat >/dev/null; kill -9 $weed")
            .arg("sh")
            .arg(program())
            .args(arguments)
            .current_dir(directory.path())
            .env("HOME", directory.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = Self { port: ports[6], _guard: guard, _directory: directory, client: client(ports[6]), runtime };
        (0..120).any(|_| server.answers()).then_some(server)
    }

    /// Whether it takes objects already.
    fn answers(&self) -> bool {
        let made = self.runtime.block_on(async {
            let _ = self.client.create_bucket().bucket("probe").send().await;
            self.client.put_object().bucket("probe").key("x").body(b"x".to_vec().into()).send().await
        });
        if made.is_err() {
            std::thread::sleep(Duration::from_millis(500));
        }
        made.is_ok()
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) {
        self.block_on(self.client.create_bucket().bucket(name).send()).unwrap();
    }

    /// Puts an object past lifeboat, whatever its name promises.
    pub fn plant(&self, bucket: &str, key: &str, bytes: &'static [u8]) {
        let body = aws_sdk_s3::primitives::ByteStream::from_static(bytes);
        self.block_on(self.client.put_object().bucket(bucket).key(key).body(body).send()).unwrap();
    }

    /// Waits for a call of the SDK.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Keys in a bucket below a prefix.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.block_on(async {
            let mut pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
            let mut keys = Vec::new();
            while let Some(page) = pages.next().await {
                keys.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
            }
            keys
        })
    }
}

fn client(port: u16) -> Client {
    let config = aws_sdk_s3::config::Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://127.0.0.1:{port}"))
        .force_path_style(true)
        .credentials_provider(Credentials::new(ACCESS, SECRET, None, None, "tests"));
    Client::from_conf(config.build())
}
