//! Checks against real servers, files and databases.

use crate::policy::{Comparison, Expectation};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use jiff::Timestamp;

use super::*;
use crate::ground::clock::FixedClock;
use crate::recovery::surroundings::RestoredSource;
use crate::recovery::surroundings::tests::surroundings;

fn check(kind: CheckKind, within: Duration, retry: bool) -> Check {
    Check { name: "it serves".into(), kind, within, retry }
}

async fn run_in(target: &std::path::Path, check: Check) -> Result<Checked> {
    let around = Arc::new(surroundings(target, &["hunter2"]));
    let directory = target.join("orders");
    around.add_restored(
        "orders",
        RestoredSource {
            kind: "sqlite".into(),
            directory,
            roots: vec!["/var/orders.db".into()],
            database: None,
            programs: None,
        },
    );
    around.add_restored(
        "accounts",
        RestoredSource {
            kind: "rds".into(),
            directory: target.into(),
            roots: Vec::new(),
            database: None,
            programs: None,
        },
    );
    run(&check, "check: it serves", &around, &FixedClock(Timestamp::UNIX_EPOCH)).await
}

async fn once(kind: CheckKind) -> Checked {
    let target = tempfile::tempdir().unwrap();
    run_in(target.path(), check(kind, Duration::from_secs(20), false)).await.unwrap()
}

/// Answers each connection with the next response; the last one again and again.
fn server(responses: Vec<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let response = responses.get(number).or(responses.last()).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
        }
    });
    port
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

fn http(port: u16, status: u16, body: Option<&str>) -> CheckKind {
    let url = format!("http://127.0.0.1:{port}/login");
    CheckKind::Http { url, status, body: body.map(Into::into), tls_verify: true }
}

#[tokio::test]
async fn http_status_and_body() {
    let page = response("200 OK", "", "Welcome to the shop");
    let cases = [
        (page.clone(), 200, None, true, "status 200"),
        (page.clone(), 200, Some("the shop"), true, "`the shop` in the body"),
        (page.clone(), 200, Some("the ship"), false, "begins: Welcome"),
        (page, 204, None, false, "status 200"),
        (response("503 Service Unavailable", "", ""), 200, None, false, "status 503"),
        (response("503 Service Unavailable", "", ""), 503, None, true, "status 503"),
        (response("302 Found", "Location: /x\r\n", ""), 302, None, true, "status 302"),
    ];
    for (response, status, body, passed, actual) in cases {
        let checked = once(http(server(vec![response]), status, body)).await;
        assert_eq!(checked.passed, passed, "{checked:?}");
        assert!(checked.actual.contains(actual), "{checked:?}");
    }
}

#[tokio::test]
async fn http_follows_redirects_but_not_for_ever() {
    let redirect = response("302 Found", "Location: /elsewhere\r\n", "");
    let once_redirected = server(vec![redirect.clone(), response("200 OK", "", "here")]);
    assert!(once(http(once_redirected, 200, Some("here"))).await.passed);
    let checked = once(http(server(vec![redirect]), 200, None)).await;
    assert!(!checked.passed && checked.actual.contains("302"), "{checked:?}");
}

#[tokio::test]
async fn http_is_tried_again_until_it_answers() {
    let starting = response("503 Service Unavailable", "", "");
    let port = server(vec![starting.clone(), starting, response("200 OK", "", "")]);
    let target = tempfile::tempdir().unwrap();
    let checked = run_in(target.path(), check(http(port, 200, None), Duration::from_secs(30), true)).await.unwrap();
    assert!(checked.passed);
    assert_eq!(checked.attempts, 3);
    assert_eq!(checked.decided_at, Timestamp::UNIX_EPOCH);
}

#[tokio::test]
async fn http_that_never_answers_ends_with_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kind = http(listener.local_addr().unwrap().port(), 200, None);
    let target = tempfile::tempdir().unwrap();
    let checked = run_in(target.path(), check(kind, Duration::from_millis(400), false)).await.unwrap();
    assert!(!checked.passed && checked.attempts == 1, "{checked:?}");
}

#[tokio::test]
async fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert!(once(CheckKind::Tcp { address: address.clone() }).await.passed);
    drop(listener);
    let checked = once(CheckKind::Tcp { address }).await;
    assert!(!checked.passed && checked.actual.contains("refused"), "{checked:?}");
}

#[tokio::test]
async fn commands() {
    let more = |value: &str| Some(Expectation { comparison: Comparison::Greater, value: value.into() });
    let cases = [
        ("true", None, true, "exit code 0, no output"),
        ("echo 12; echo warning >&2", more("9"), true, "exit code 0, output 12"),
        ("echo 12", more("12"), false, "output 12"),
        ("echo oh hunter2 >&2; exit 4", None, false, "exit code 4: oh ***"),
        ("test \"$PWD\" = \"$LIFEBOAT_TARGET\" && test -z \"$CARGO\"", None, true, "exit code 0"),
    ];
    for (line, expect, passed, actual) in cases {
        let checked = once(CheckKind::Command { line: line.into(), expect }).await;
        assert_eq!(checked.passed, passed, "{checked:?}");
        assert!(checked.actual.contains(actual), "{checked:?}");
        assert!(!checked.asked.contains("hunter2"), "{checked:?}");
    }
}

#[tokio::test]
async fn a_command_is_tried_again_and_gives_up() {
    let target = tempfile::tempdir().unwrap();
    let command = |line: &str| CheckKind::Command { line: line.into(), expect: None };
    let counting = command("echo >> count; test $(wc -l < count) -ge 3");
    let checked = run_in(target.path(), check(counting, Duration::from_secs(30), true)).await.unwrap();
    assert!(checked.passed && checked.attempts == 3, "{checked:?}");
    let hopeless = check(command("exit 1"), Duration::from_millis(700), true);
    let checked = run_in(target.path(), hopeless).await.unwrap();
    assert!(!checked.passed && checked.attempts >= 2, "{checked:?}");
    let hanging = check(command("sleep 64"), Duration::from_millis(300), false);
    let checked = run_in(target.path(), hanging).await.unwrap();
    assert!(!checked.passed && checked.actual.contains("not done within"), "{checked:?}");
}

#[tokio::test]
async fn sql() {
    let target = tempfile::tempdir().unwrap();
    std::fs::create_dir(target.path().join("orders")).unwrap();
    let database = rusqlite::Connection::open(target.path().join("orders/orders.db")).unwrap();
    database.execute_batch("create table orders(at); insert into orders values (1), (2)").unwrap();
    let ask = async |query: &str, on: &str| {
        let expect = Expectation { comparison: Comparison::Greater, value: "1".into() };
        let kind = CheckKind::Sql { query: query.into(), on: on.into(), expect };
        run_in(target.path(), check(kind, Duration::from_secs(20), false)).await
    };
    let checked = ask("select count(*) from orders", "orders").await.unwrap();
    assert_eq!((checked.passed, checked.actual.as_str(), checked.expected.as_str()), (true, "2", "> 1"));
    assert!(!ask("select 0", "orders").await.unwrap().passed);
    assert_eq!(ask("select null", "orders").await.unwrap().actual, "no value");
    assert!(ask("select * from gone", "orders").await.unwrap().actual.contains("no such table"));
    assert!(ask("select 1", "accounts").await.unwrap_err().message.contains("not served yet"));
    assert!(ask("select 1", "files").await.unwrap_err().message.contains("not restored"));
}

#[tokio::test]
async fn files() {
    let target = tempfile::tempdir().unwrap();
    std::fs::write(target.path().join("abc"), "abc").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", target.path().join("out")).unwrap();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let cases = [
        ("abc", None, true, "exists"),
        ("abc", Some(abc), true, abc),
        ("abc", Some("00"), false, abc),
        (".", Some(abc), false, "no regular file"),
        (".", None, true, "exists"),
        ("none", None, false, "does not exist"),
        ("out", None, false, "leads out of the target"),
    ];
    for (path, sha256, passed, actual) in cases {
        let kind = CheckKind::File { path: path.into(), sha256: sha256.map(Into::into) };
        let checked = run_in(target.path(), check(kind, Duration::from_secs(20), false)).await.unwrap();
        assert_eq!(checked.passed, passed, "{checked:?}");
        assert!(checked.actual.contains(actual), "{checked:?}");
    }
}
