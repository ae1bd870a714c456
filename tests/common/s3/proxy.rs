//! A proxy between a client and the S3 server. It understands as much of HTTP as S3 clients speak, and a rule says for
//! each request what goes wrong with it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not forwarded; this status with this code in an S3 error body.
    Answer(u16, &'static str),
    /// Not forwarded; the connection is cut.
    CutBefore,
    /// Forwarded and carried out; the connection is cut instead of an answer.
    CutAfter,
    /// The answer's head is whole, half of its body is missing, the connection is cut.
    HalfBody,
    /// A byte of what is sent, either way, is another.
    Flip,
    /// Not forwarded; status 200, and an error in the body.
    ErrorIn200,
    /// Nothing ever comes.
    Hang,
    /// 1 kB in a second.
    Trickle,
    /// Listings: each entry twice.
    Twice,
    /// Listings: entries in reverse.
    Reversed,
}

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query as sent.
    pub target: String,
}

impl Request {
    /// The key within the bucket, without the query.
    pub fn key(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default().trim_start_matches('/');
        path.split_once('/').map_or("", |(_, key)| key)
    }

    pub fn is_listing(&self) -> bool {
        self.target.contains("list-type=2")
    }
}

type Rule = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// A running proxy; it ends with the process.
pub struct Proxy {
    pub port: u16,
    rule: Arc<Mutex<Rule>>,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Proxy {
    pub fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_| None)));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (its_rule, its_log) = (Arc::clone(&rule), Arc::clone(&log));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (rule, log) = (Arc::clone(&its_rule), Arc::clone(&its_log));
                std::thread::spawn(move || {
                    // A connection that breaks is what this is for.
                    let _ = serve(&client, upstream, &rule, &log);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, rule, log }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sets the rule for the requests that follow.
    pub fn rule(&self, rule: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// The requests since the last call.
    pub fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

fn serve(client: &TcpStream, upstream: u16, rule: &Mutex<Rule>, log: &Mutex<Vec<Request>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut writer = client.try_clone()?;
    while let Some((head, request)) = read_head(&mut reader)? {
        if header(&head, "expect").is_some() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body)?;
        log.lock().unwrap().push(request.clone());
        let fault = (rule.lock().unwrap())(&request);
        match fault {
            Some(Fault::Answer(status, code)) => writer.write_all(&error_answer(status, code, &request))?,
            Some(Fault::ErrorIn200) => writer.write_all(&error_answer(200, "InternalError", &request))?,
            Some(Fault::CutBefore) => return Ok(()),
            Some(Fault::Hang) => {
                std::thread::sleep(Duration::from_secs(20));
                return Ok(());
            }
            fault => {
                if fault == Some(Fault::Flip) && !body.is_empty() {
                    let middle = body.len() / 2;
                    body[middle] ^= 1;
                }
                let answer = forward(upstream, &head, &body)?;
                if !give(&mut writer, answer, fault, body.is_empty())? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Passes an answer on, as the fault has it; false when the connection ends with it.
fn give(writer: &mut TcpStream, mut answer: Vec<u8>, fault: Option<Fault>, flip: bool) -> io::Result<bool> {
    let begin = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    match fault {
        Some(Fault::CutAfter) => return Ok(false),
        Some(Fault::HalfBody) if answer.len() > begin => {
            answer.truncate(begin + (answer.len() - begin) / 2);
            writer.write_all(&answer)?;
            return Ok(false);
        }
        Some(Fault::Flip) if flip && answer.len() > begin => {
            let middle = begin + (answer.len() - begin) / 2;
            answer[middle] ^= 1;
        }
        Some(Fault::Trickle) => {
            for part in answer.chunks(100) {
                writer.write_all(part)?;
                std::thread::sleep(Duration::from_millis(100));
            }
            return Ok(true);
        }
        Some(Fault::Twice | Fault::Reversed) => answer = relisted(&answer, begin, fault == Some(Fault::Twice)),
        _ => {}
    }
    writer.write_all(&answer)?;
    // The server was asked to close after each answer; so do we.
    Ok(false)
}

/// A listing with each entry twice, or all in reverse.
fn relisted(answer: &[u8], begin: usize, twice: bool) -> Vec<u8> {
    let body = String::from_utf8_lossy(&dechunked(answer, begin)).into_owned();
    let pieces: Vec<&str> = body.split_inclusive("</Contents>").collect();
    let (Some(first), Some(tail)) = (body.find("<Contents>"), pieces.last()) else { return answer.to_vec() };
    let entries: Vec<&str> =
        pieces[..pieces.len() - 1].iter().map(|piece| &piece[piece.find("<Contents>").unwrap_or(0)..]).collect();
    let entries: String = match twice {
        true => entries.iter().flat_map(|entry| [*entry, *entry]).collect(),
        false => entries.iter().rev().copied().collect(),
    };
    let body = format!("{}{entries}{tail}", &body[..first]);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn dechunked(answer: &[u8], begin: usize) -> Vec<u8> {
    let head = String::from_utf8_lossy(&answer[..begin]).to_lowercase();
    let mut rest = &answer[begin..];
    if !head.contains("transfer-encoding: chunked") {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Option<(String, Request)>> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    Ok(Some((head, Request { method, target })))
}

fn header(head: &str, name: &str) -> Option<String> {
    let value = |line: &str| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    head.lines().skip(1).find_map(value)
}

/// Sends the request on and reads the whole answer.
fn forward(upstream: u16, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    let kept = |line: &&str| !["connection:", "expect:"].iter().any(|name| line.to_lowercase().starts_with(name));
    let lines: Vec<&str> = head.trim_end().split("\r\n").filter(kept).collect();
    server.write_all(format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).as_bytes())?;
    server.write_all(body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}

fn error_answer(status: u16, code: &str, request: &Request) -> Vec<u8> {
    let body = match request.method.as_str() {
        "HEAD" => String::new(),
        _ => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>As the test wants.</Message><RequestId>TEST0001</RequestId></Error>"
        ),
    };
    let length = body.len();
    format!("HTTP/1.1 {status} Test\r\ncontent-type: application/xml\r\nx-amz-request-id: TEST0001\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}
