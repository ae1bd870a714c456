//! Tests of the JSON of trees.

use proptest::prelude::*;

use super::*;

fn any_time() -> impl Strategy<Value = Timestamp> {
    (-62_167_219_200_i64..253_402_200_000, 0..1_000_000_000_i32).prop_map(|(s, n)| Timestamp::new(s, n).unwrap())
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..40).prop_filter("a name of a file", |name| check_name(name).is_ok())
}

fn any_node() -> impl Strategy<Value = Node> {
    let kinds = prop_oneof![
        Just(NodeKind::File),
        Just(NodeKind::Directory),
        Just(NodeKind::Symlink),
        Just(NodeKind::BlockDevice),
        Just(NodeKind::CharacterDevice),
        Just(NodeKind::Fifo),
        Just(NodeKind::Socket),
    ];
    let identity = (any::<u32>(), any::<u32>(), any::<String>(), any::<u64>(), any::<[u8; 32]>());
    let xattrs = proptest::collection::btree_map(any_name(), any::<Vec<u8>>(), 0..3);
    (any_name(), kinds, 0..0o10000_u32, any_time(), identity, xattrs, any::<Vec<u8>>()).prop_map(
        |(name, kind, mode, time, (uid, gid, user, number, id), xattrs, target)| Node {
            name,
            kind,
            mode,
            modified: time,
            accessed: time,
            changed: Timestamp::UNIX_EPOCH,
            uid,
            gid,
            user: user.clone(),
            group: user,
            inode: number,
            device_id: number,
            size: number,
            links: number,
            link_target: (kind == NodeKind::Symlink).then_some(target),
            device: number,
            xattrs: xattrs.into_iter().collect(),
            content: if kind == NodeKind::File { vec![BlobId(id); 2] } else { Vec::new() },
            subtree: (kind == NodeKind::Directory).then_some(BlobId(id)),
        },
    )
}

proptest! {
    #[test]
    fn every_tree_survives(nodes in proptest::collection::btree_map(any_name(), any_node(), 0..6)) {
        let nodes: Vec<Node> = nodes.into_iter().map(|(name, node)| Node { name, ..node }).collect();
        let mut shuffled = nodes.clone();
        shuffled.reverse();
        prop_assert_eq!(decode(&encode(shuffled).unwrap()).unwrap(), nodes);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_values_do_not_panic(name: String, kind: String, mode: u32, time: String) {
        let node = serde_json::json!({"name": name, "type": kind, "mode": mode, "mtime": time});
        let _ = decode(serde_json::json!({"nodes": [node]}).to_string().as_bytes());
    }
}

fn tree_of_names(names: &[&str]) -> String {
    let nodes: Vec<_> =
        names.iter().map(|name| serde_json::json!({"name": name, "type": "file", "content": []})).collect();
    serde_json::json!({ "nodes": nodes }).to_string()
}

#[test]
fn names_that_no_file_can_have_are_damage() {
    let long = "x".repeat(256);
    for wrong in ["", ".", "..", "a/b", "/", "a\\x00", &long] {
        assert!(decode(tree_of_names(&[wrong]).as_bytes()).is_err(), "{wrong}");
    }
    assert!(decode(tree_of_names(&["b", "a"]).as_bytes()).is_err(), "out of order");
    assert!(decode(tree_of_names(&["a", "a"]).as_bytes()).is_err(), "twice");
    assert_eq!(decode(tree_of_names(&["a", "b", "é"]).as_bytes()).unwrap().len(), 3);
}

#[test]
fn a_directory_needs_a_tree_and_a_kind_must_be_known() {
    assert!(decode(br#"{"nodes":[{"name":"a","type":"dir"}]}"#).is_err());
    assert!(decode(br#"{"nodes":[{"name":"a","type":"irregular"}]}"#).is_err());
    assert_eq!(decode(br#"{"nodes":null}"#).unwrap(), []);
}

#[test]
fn the_bytes_are_those_restic_writes() {
    let node = Node {
        name: b"a&b\xff".to_vec(),
        kind: NodeKind::File,
        mode: 0o4755,
        modified: "2024-02-03T04:05:06.700Z".parse().unwrap(),
        accessed: Timestamp::UNIX_EPOCH,
        changed: Timestamp::UNIX_EPOCH,
        uid: 0,
        gid: 7,
        user: "root".to_owned(),
        group: String::new(),
        inode: 12,
        device_id: 0,
        size: 0,
        links: 1,
        link_target: None,
        device: 0,
        xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())],
        content: Vec::new(),
        subtree: None,
    };
    let text = concat!(
        r#"{"nodes":[{"name":"a\u0026b\\xff","type":"file","mode":8389101,"mtime":"2024-02-03T04:05:06.7Z","#,
        r#""atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":7,"user":"root","inode":12,"#,
        r#""links":1,"extended_attributes":[{"name":"user.a","value":"MQ=="}],"content":[]}]}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(encode(vec![node]).unwrap()).unwrap(), text);
}

#[test]
fn times_beyond_the_format_go_to_its_ends() {
    assert_eq!(time_text(Timestamp::MIN), "0000-01-01T00:00:00Z");
    assert!(time_of(&time_text(Timestamp::MAX), "a").is_ok());
    assert_eq!(time_of("9999-12-31T23:59:59Z", "a").unwrap(), Timestamp::MAX);
    assert_eq!(time_of("2024-01-01T01:00:00+01:00", "a").unwrap(), "2024-01-01T00:00:00Z".parse().unwrap());
    assert!(time_of("yesterday", "a").is_err());
}
