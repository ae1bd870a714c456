//! "Did you mean": the nearest valid word to one that is not.

/// The candidate that was probably meant, if any is near enough.
///
/// Near is: the same but for case, or at most one edit per three characters (a swap of neighbours is one edit).
pub(crate) fn nearest<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    /// Longer texts are no slip of the finger, and the distance is quadratic in them.
    const COMPARED_BYTES_MAX: usize = 100;
    if found.is_empty() || found.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let lower = found.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(edits, candidate)| *edits <= allowed_edits(&lower, candidate))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

fn allowed_edits(found: &str, candidate: &str) -> usize {
    let longer = found.chars().count().max(candidate.chars().count());
    (longer / 3).max(usize::from(longer > 1))
}

/// The nearest IANA time zone: by the whole name, or by the city alone (`Paris` for `Europe/Paris`).
pub(crate) fn nearest_time_zone(found: &str) -> Option<String> {
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    let city_of = |name: &str| name.rsplit_once('/').map(|(_, city)| city.to_owned());
    let wanted = found.trim().replace(' ', "_").to_lowercase();
    let by_city = names.iter().find(|name| city_of(name).is_some_and(|city| city.to_lowercase() == wanted));
    by_city.map(String::as_str).or_else(|| nearest(found, names.iter().map(String::as_str))).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let keys = ["name", "kind", "paths", "exclude"];
        assert_eq!(nearest("kidn", keys), Some("kind"));
        assert_eq!(nearest("excludes", keys), Some("exclude"));
        assert_eq!(nearest("PATHS", keys), Some("paths"));
        assert_eq!(nearest("frequency", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"x".repeat(10_000), keys), None);
    }

    #[test]
    fn zones_are_found_by_slip_and_by_city() {
        assert_eq!(nearest_time_zone("Europe/Pariss").as_deref(), Some("Europe/Paris"));
        assert_eq!(nearest_time_zone("paris").as_deref(), Some("Europe/Paris"));
        assert_eq!(nearest_time_zone("Middle-earth/Bag_End"), None);
    }
}
