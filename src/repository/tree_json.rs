//! Trees as JSON, the way restic writes them, so that equal directories give equal blobs.
//!
//! Fields that are not listed here (`generic_attributes`, `error`) are ignored when read and are not written.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::key::Base64;
use super::quote::{quote, unquote};
use super::tree::{BlobId, Node, NodeKind};

/// Bits of Go's `os.FileMode` beyond the nine permission bits.
mod go_mode {
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const NAMED_PIPE: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SET_UID: u32 = 1 << 23;
    pub(super) const SET_GID: u32 = 1 << 22;
    pub(super) const CHARACTER_DEVICE: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
}

#[derive(Deserialize)]
struct TreeJson {
    nodes: Option<Entries>,
}

/// The entries as they are read, or what broke the rules first. Each is taken over at once: the texts of a directory of
/// 200,000 entries would be 200 MB.
struct Entries(Result<Vec<Node>, String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sequence;
        impl<'de> de::Visitor<'de> for Sequence {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut nodes = Ok(Vec::new());
                while let Some(json) = list.next_element::<NodeJson<'_>>()? {
                    if let Ok(read) = &mut nodes {
                        match from_json(json) {
                            Ok(node) => read.push(node),
                            Err(why) => nodes = Err(why),
                        }
                    }
                }
                Ok(Entries(nodes))
            }
        }
        deserializer.deserialize_seq(Sequence)
    }
}

/// Fields in restic's order. Texts are borrowed where they have no escapes: a backup of what did not change reads a
/// node for every file.
#[derive(Serialize, Deserialize)]
struct NodeJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    mode: u32,
    #[serde(default, borrow)]
    mtime: Cow<'a, str>,
    #[serde(default, borrow)]
    atime: Cow<'a, str>,
    #[serde(default, borrow)]
    ctime: Cow<'a, str>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default, borrow, skip_serializing_if = "is_empty")]
    user: Cow<'a, str>,
    #[serde(default, borrow, skip_serializing_if = "is_empty")]
    group: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    inode: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    device_id: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    links: u64,
    #[serde(default, borrow, skip_serializing_if = "is_empty")]
    linktarget: Cow<'a, str>,
    /// A link target that is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linktarget_raw: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extended_attributes: Option<Vec<AttributeJson>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    device: u64,
    #[serde(default)]
    content: Option<Vec<BlobId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subtree: Option<BlobId>,
}

#[derive(Serialize, Deserialize)]
struct AttributeJson {
    name: String,
    value: Base64,
    /// Ours: a name that is not UTF-8, as `linktarget_raw` is for targets. restic sees the name with U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_raw: Option<Base64>,
}

#[allow(clippy::ptr_arg, reason = "serde asks for this signature")]
fn is_empty(text: &Cow<'_, str>) -> bool {
    text.is_empty()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

/// Sorts the nodes and writes them, giving each up as it is written. The error says which name may not stand in a tree.
pub(super) fn encode(mut nodes: Vec<Node>) -> Result<Vec<u8>, String> {
    nodes.sort_by(|left, right| left.name.cmp(&right.name));
    check_names(&nodes)?;
    let mut tree = b"{\"nodes\":[".to_vec();
    let mut json = Vec::new();
    for (number, node) in nodes.into_iter().enumerate() {
        if number > 0 {
            tree.push(b',');
        }
        json.clear();
        serde_json::to_writer(&mut json, &to_json(&node)).map_err(|error| error.to_string())?;
        escape_as_go(&json, &mut tree);
    }
    tree.extend_from_slice(b"]}\n");
    Ok(tree)
}

/// Go escapes these three, which occur inside strings only.
fn escape_as_go(json: &[u8], escaped: &mut Vec<u8>) {
    for &byte in json {
        match byte {
            b'<' => escaped.extend_from_slice(b"\\u003c"),
            b'>' => escaped.extend_from_slice(b"\\u003e"),
            b'&' => escaped.extend_from_slice(b"\\u0026"),
            _ => escaped.push(byte),
        }
    }
}

/// Reads a tree; the error says what breaks the rules.
pub(super) fn decode(plain: &[u8]) -> Result<Vec<Node>, String> {
    // Looked through as a whole, faster than text by text.
    let plain = std::str::from_utf8(plain).map_err(|error| error.to_string())?;
    let json: TreeJson = serde_json::from_str(plain).map_err(|error| error.to_string())?;
    let nodes = json.nodes.map_or(Ok(Vec::new()), |entries| entries.0)?;
    check_names(&nodes)?;
    Ok(nodes)
}

/// Names that a file system could have, in strictly rising order.
fn check_names(nodes: &[Node]) -> Result<(), String> {
    for node in nodes {
        check_name(&node.name)?;
    }
    for pair in nodes.windows(2) {
        if pair[0].name >= pair[1].name {
            return Err(format!("its entry {:?} is there twice or out of order", quote(&pair[1].name)));
        }
    }
    Ok(())
}

fn check_name(name: &[u8]) -> Result<(), String> {
    let sound =
        (1..=255).contains(&name.len()) && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0);
    if sound { Ok(()) } else { Err(format!("{:?} is no name of a file", quote(&name[..name.len().min(300)]))) }
}

fn to_json(node: &Node) -> NodeJson<'_> {
    let target = node.link_target.as_deref().unwrap_or_default();
    let modified = time_text(node.modified);
    let accessed = if node.accessed == node.modified { modified.clone() } else { time_text(node.accessed) };
    NodeJson {
        name: quote(&node.name).into(),
        kind: kind_name(node.kind).into(),
        mode: go_mode(node.kind, node.mode),
        mtime: modified.into(),
        atime: accessed.into(),
        ctime: time_text(node.changed).into(),
        uid: node.uid,
        gid: node.gid,
        user: node.user.as_str().into(),
        group: node.group.as_str().into(),
        inode: node.inode,
        device_id: node.device_id,
        size: node.size,
        links: node.links,
        linktarget: String::from_utf8_lossy(target),
        linktarget_raw: raw_if_not_text(target),
        extended_attributes: (!node.xattrs.is_empty()).then(|| node.xattrs.iter().map(attribute_json).collect()),
        device: node.device,
        content: (node.kind == NodeKind::File).then(|| node.content.clone()),
        subtree: node.subtree,
    }
}

fn raw_if_not_text(bytes: &[u8]) -> Option<Base64> {
    std::str::from_utf8(bytes).is_err().then(|| Base64(bytes.to_vec()))
}

fn attribute_json((name, value): &(Vec<u8>, Vec<u8>)) -> AttributeJson {
    AttributeJson {
        name: String::from_utf8_lossy(name).into_owned(),
        value: Base64(value.clone()),
        name_raw: raw_if_not_text(name),
    }
}

fn from_json(json: NodeJson<'_>) -> Result<Node, String> {
    let name = unquote(&json.name).ok_or_else(|| format!("the name {:?} is not quoted as it must be", json.name))?;
    let kind = kind_of(&json.kind)
        .ok_or_else(|| format!("the entry {:?} is of the unknown kind {:?}", json.name, json.kind))?;
    if (kind == NodeKind::Directory) != json.subtree.is_some() {
        return Err(format!("the entry {:?} of kind {:?} must not be with or without a tree", json.name, json.kind));
    }
    let target = json.linktarget_raw.map_or_else(|| json.linktarget.into_owned().into_bytes(), |raw| raw.0);
    let mut xattrs: Vec<_> = json.extended_attributes.unwrap_or_default().into_iter().map(attribute).collect();
    xattrs.sort();
    let modified = time_of(&json.mtime, &json.name)?;
    Ok(Node {
        kind,
        mode: unix_mode(json.mode),
        modified,
        accessed: if json.atime == json.mtime { modified } else { time_of(&json.atime, &json.name)? },
        changed: time_of(&json.ctime, &json.name)?,
        uid: json.uid,
        gid: json.gid,
        user: json.user.into_owned(),
        group: json.group.into_owned(),
        inode: json.inode,
        device_id: json.device_id,
        size: json.size,
        links: json.links,
        link_target: (kind == NodeKind::Symlink).then_some(target),
        device: json.device,
        xattrs,
        content: json.content.unwrap_or_default(),
        subtree: json.subtree,
        name,
    })
}

fn attribute(json: AttributeJson) -> (Vec<u8>, Vec<u8>) {
    (json.name_raw.map_or_else(|| json.name.into_bytes(), |raw| raw.0), json.value.0)
}

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Directory => "dir",
        NodeKind::Symlink => "symlink",
        NodeKind::BlockDevice => "dev",
        NodeKind::CharacterDevice => "chardev",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
    }
}

fn kind_of(name: &str) -> Option<NodeKind> {
    Some(match name {
        "file" => NodeKind::File,
        "dir" => NodeKind::Directory,
        "symlink" => NodeKind::Symlink,
        "dev" => NodeKind::BlockDevice,
        "chardev" => NodeKind::CharacterDevice,
        "fifo" => NodeKind::Fifo,
        "socket" => NodeKind::Socket,
        _ => return None,
    })
}

/// From `st_mode & 0o7777` and the kind to Go's bits.
fn go_mode(kind: NodeKind, mode: u32) -> u32 {
    let kind_bits = match kind {
        NodeKind::File => 0,
        NodeKind::Directory => go_mode::DIRECTORY,
        NodeKind::Symlink => go_mode::SYMLINK,
        NodeKind::BlockDevice => go_mode::DEVICE,
        NodeKind::CharacterDevice => go_mode::DEVICE | go_mode::CHARACTER_DEVICE,
        NodeKind::Fifo => go_mode::NAMED_PIPE,
        NodeKind::Socket => go_mode::SOCKET,
    };
    let moved = |unix: u32, go: u32| if mode & unix == 0 { 0 } else { go };
    kind_bits
        | mode & 0o777
        | moved(0o4000, go_mode::SET_UID)
        | moved(0o2000, go_mode::SET_GID)
        | moved(0o1000, go_mode::STICKY)
}

/// From Go's bits to `st_mode & 0o7777`.
fn unix_mode(mode: u32) -> u32 {
    let moved = |go: u32, unix: u32| if mode & go == 0 { 0 } else { unix };
    mode & 0o777 | moved(go_mode::SET_UID, 0o4000) | moved(go_mode::SET_GID, 0o2000) | moved(go_mode::STICKY, 0o1000)
}

/// RFC 3339 with nanoseconds, UTC. The format has the years 0 to 9999 only; others are moved to the nearest end.
fn time_text(time: Timestamp) -> String {
    const YEAR_ZERO: i64 = -62_167_219_200;
    if time.as_second() < YEAR_ZERO { "0000-01-01T00:00:00Z".to_owned() } else { time.to_string() }
}

fn time_of(text: &str, name: &str) -> Result<Timestamp, String> {
    if text.is_empty() {
        return Ok(Timestamp::UNIX_EPOCH);
    }
    match text.parse() {
        Ok(time) => Ok(time),
        // Go's last year ends a day after what a jiff timestamp can hold.
        Err(_) if text.starts_with("9999-12-3") => Ok(Timestamp::MAX),
        Err(_) => Err(format!("the entry {name:?} has the unreadable time {text:?}")),
    }
}

#[cfg(test)]
#[path = "tree_json_tests.rs"]
mod tests;
