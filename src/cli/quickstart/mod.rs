//! `lifeboat quickstart`: a small sample system in a directory, then really backed up, archived and drilled.
//!
//! Every step is a child process of this very program, run as anybody would type it.

mod changes;
mod children;
mod content;
mod customers;
mod place;
mod sample;
mod story;
mod war;
mod writer;

use std::path::PathBuf;

use self::children::Lifeboat;
use self::customers::{Customers, SignUps};
use self::place::{Place, Stage};
use self::story::{Outcome, Voice};
use self::writer::Writer;
use crate::ground::Clock;
use crate::ground::clock::SystemClock;
use crate::ground::failure::Result;

/// What `lifeboat quickstart` was asked for.
#[derive(Debug, Clone)]
pub struct QuickstartArguments {
    /// Where the sample system goes, or already is.
    pub dir: PathBuf,
    /// One JSON document instead of text.
    pub json: bool,
    /// No words on the way.
    pub quiet: bool,
    /// No progress bars.
    pub no_progress: bool,
}

/// Makes the sample system or takes up an earlier one, and leads it through backups, an archive and a drill.
/// Gives the exit code: the drill's, or 3 when the drill was good but a backup was partial.
///
/// # Errors
/// Wrong input for a directory that is somebody else's; otherwise what the first failing command's exit code means.
pub fn run(arguments: &QuickstartArguments) -> Result<u8> {
    let voice = Voice::new(!arguments.quiet && !arguments.json);
    let (place, stage) = Place::claim(&arguments.dir)?;
    if stage == Stage::Making {
        voice.say("making a small web shop: 3,000 files, logs, a disk image and a database");
        let obstacle = Customers::obstacle(&place);
        match &obstacle {
            None => voice.say("and a PostgreSQL cluster, since the server's programs are installed"),
            Some(obstacle) => voice.say(&format!("without a PostgreSQL cluster: {obstacle}")),
        }
        sample::make(&place, SystemClock.now(), obstacle.is_none())?;
        place.mark(Stage::Made)?;
    } else {
        voice.say(&format!("continuing with the shop in {}", place.root().display()));
    }
    let lifeboat = Lifeboat::new(&place, arguments)?;
    let outcome = perform(&place, stage, &lifeboat, &voice)?;
    outcome.tell(&place, &lifeboat, arguments)?;
    Ok(outcome.exit_code())
}

fn perform(place: &Place, stage: Stage, lifeboat: &Lifeboat, voice: &Voice) -> Result<Outcome> {
    voice.say("checking the policy");
    lifeboat.check(place)?;
    let customers = if place.customers_dsn().exists() { Some(Customers::start(place)?) } else { None };
    let writer = Writer::start(&place.database(), SystemClock)?;
    let sign_ups = customers.as_ref().map(SignUps::start).transpose()?;
    let backups = back_up(place, stage, lifeboat, voice);
    let orders = writer.stop()?;
    let signed_up = sign_ups.map(SignUps::stop).transpose()?;
    // The drill begins with the primary down.
    drop(customers);
    let (changes, partial) = backups?;
    place.mark(Stage::BackedUp)?;
    let points = lifeboat.points()?;
    let older = story::older_point(&points, "files")?;
    voice.say(&format!("archiving the older point {older}"));
    let archives = lifeboat.archive(&older)?;
    voice.say("drilling: restoring everything into an empty directory and checking it");
    let drill = lifeboat.drill()?;
    Ok(Outcome { points, archives, drill, orders, signed_up, changes, partial })
}

/// The backups of this round while orders keep coming in: two around changes at first, later one after changes.
/// Gives the changes and whether a backup was partial.
fn back_up(place: &Place, stage: Stage, lifeboat: &Lifeboat, voice: &Voice) -> Result<(changes::Changes, bool)> {
    let mut partial = false;
    if stage != Stage::BackedUp {
        voice.say("backing up, while orders keep coming in");
        partial |= lifeboat.backup()?;
    }
    let changes = changes::make(place, SystemClock.now())?;
    voice.say(&format!("changed {} files, released {}.war, rotated the logs", changes.files, changes.released));
    voice.say("backing up again");
    partial |= lifeboat.backup()?;
    Ok((changes, partial))
}
