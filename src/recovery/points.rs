//! Which recovery point a source is restored from. Pure.

use jiff::Timestamp;

use crate::site::records::PointRecord;

/// The newest usable point of `source`.
///
/// Without `at`: the one with the greatest sequence number, whatever clocks said; of points in an existing repository the
/// one of the latest snapshot ([`PointRecord::compare_newness`]). With `at`, "had it happened then": the same among the
/// points that were available at that time and whose data is not newer than it.
/// A partial point counts like a complete one: newer data with a named gap serves better than older data; what is
/// missing in it is named by the restore.
pub fn points_at<'a>(points: &'a [PointRecord], source: &str, at: Option<Timestamp>) -> Option<&'a PointRecord> {
    points
        .iter()
        .filter(|point| point.source == source)
        .filter(|point| at.is_none_or(|at| point.available_time <= at && point.data_time <= at))
        .max_by(|left, right| left.compare_newness(right))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::site::records::{PointState, RECORD_FORMAT};

    /// A point of `source` with times in Unix seconds.
    pub(crate) fn point(source: &str, sequence: u64, data: i64, available: i64) -> PointRecord {
        PointRecord {
            format: RECORD_FORMAT,
            id: format!("{source}-{sequence}"),
            system: "shop".into(),
            source: source.into(),
            kind: "files".into(),
            run: format!("run-{sequence}"),
            sequence,
            data_time: Timestamp::from_second(data).unwrap(),
            available_time: Timestamp::from_second(available).unwrap(),
            bytes: 0,
            added_bytes: 0,
            read_bytes: None,
            full_read: None,
            entries: 0,
            state: PointState::Complete,
            held: false,
            missing: Vec::new(),
            missing_count: 0,
            snapshot: "00".repeat(32),
            tree: "11".repeat(32),
            roots: vec!["/srv/shop".into()],
            policy: "22".repeat(32),
            host: "primary".into(),
            clock_suspect: None,
            database: None,
        }
    }

    #[test]
    fn the_newest_usable_point_is_chosen() {
        let points = [
            point("files", 1, 100, 110),
            point("files", 3, 200, 260),
            point("files", 5, 50, 60), // the clock was set back: newest by sequence all the same
            point("orders", 4, 300, 310),
        ];
        let cases = [
            ("files", None, Some(5)),
            ("files", Some(49), None),
            ("files", Some(70), Some(5)),
            ("orders", Some(309), None),
            ("orders", Some(310), Some(4)),
            ("disk", None, None),
        ];
        for (source, at, expected) in cases {
            let at = at.map(|second| Timestamp::from_second(second).unwrap());
            assert_eq!(points_at(&points, source, at).map(|point| point.sequence), expected, "{source} {at:?}");
        }
    }

    #[test]
    fn of_snapshots_that_were_found_in_any_order_the_latest_is_chosen() {
        let found = |sequence, data, available| {
            let kind = crate::policy::EXISTING_REPOSITORY.into();
            PointRecord { kind, ..point("old", sequence, data, available) }
        };
        // Found at 500: two snapshots; at 600 an older one, and one that is dated later than that.
        let mut points = vec![found(1, 100, 500), found(2, 300, 500), found(3, 200, 600)];
        assert_eq!(points_at(&points, "old", None).unwrap().sequence, 2);
        points.push(found(4, 9_000, 600));
        assert_eq!(points_at(&points, "old", None).unwrap().sequence, 4);
        // A clock that runs ahead does not hold its place for ever.
        points.push(found(5, 700, 710));
        assert_eq!(points_at(&points, "old", None).unwrap().sequence, 5);
        // The source is read by ourselves from here on.
        points.push(point("old", 6, 650, 660));
        assert_eq!(points_at(&points, "old", None).unwrap().sequence, 6);
    }

    #[test]
    fn a_point_not_yet_available_is_not_used() {
        let points = [point("files", 1, 100, 110), point("files", 3, 200, 260)];
        let at = Some(Timestamp::from_second(250).unwrap());
        assert_eq!(points_at(&points, "files", at).unwrap().sequence, 1);
    }
}
