//! The comparison that the other tests rely on has teeth: it accepts a faithful copy and notices each single loss.

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{World, tree};

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_faithful_copy_is_the_same_and_every_loss_is_noticed() {
    let world = World::new();
    let original = world.primary();
    tree::make_awkward(&original);
    type Loss = (&'static str, fn(&Path));
    let losses: [Loss; 9] = [
        ("large", |copy| File::options().write(true).open(copy.join("large")).unwrap().write_all_at(b"!", 9).unwrap()),
        ("mode-755", |copy| fs::set_permissions(copy.join("mode-755"), Permissions::from_mode(0o754)).unwrap()),
        ("deep/hard-2", |copy| {
            fs::copy(copy.join("large"), copy.join("own")).unwrap();
            fs::rename(copy.join("own"), copy.join("deep/hard-2")).unwrap();
        }),
        ("link-dangling", |copy| {
            fs::remove_file(copy.join("link-dangling")).unwrap();
            symlink("elsewhere", copy.join("link-dangling")).unwrap();
        }),
        ("empty", |copy| rustix::fs::removexattr(copy.join("empty"), "user.empty").unwrap()),
        ("zeros", |copy| File::options().append(true).open(copy.join("zeros")).unwrap().set_len(300_001).unwrap()),
        ("fifo", |copy| fs::remove_file(copy.join("fifo")).unwrap()),
        ("sparse", |copy| {
            let bytes = fs::read(copy.join("sparse")).unwrap();
            fs::write(copy.join("sparse"), bytes).unwrap();
        }),
        ("many/new", |copy| fs::write(copy.join("many/new"), "").unwrap()),
    ];
    for (number, (path, lose)) in losses.iter().enumerate() {
        let copied = world.path(format!("copy-{number}"));
        copy(&original, &copied);
        if number == 0 {
            tree::assert_same(&original, &copied);
        }
        lose(&copied);
        let lines = tree::differences(&original, &copied);
        assert!(lines.iter().any(|line| line.starts_with(&format!("{path}: "))), "{path} not noticed in {lines:?}");
    }
}
