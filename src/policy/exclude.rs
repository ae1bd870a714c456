//! What the patterns of `exclude` mean: the one reading of them, for the backup and for the judgement of a policy.
//!
//! A pattern that begins with `/` is matched against the absolute path, one without any `/` against the entry's name at
//! any depth, every other against the path relative to the configured one: `**/tmp/**` must not leave out a whole source
//! because it lies below a directory of that name. `*` and `?` stay within one name, `**` crosses directories.

use globset::{Candidate, GlobSet, GlobSetBuilder};

/// Compiled exclude patterns.
#[derive(Debug)]
pub struct Exclude {
    absolute: GlobSet,
    relative: GlobSet,
    names: GlobSet,
}

impl Exclude {
    /// Compiles patterns. A trailing slash is no part of a name.
    ///
    /// # Errors
    /// The pattern that is none, and why.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, (String, globset::Error)> {
        let (mut absolute, mut relative, mut names) =
            (GlobSetBuilder::new(), GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let trimmed = if pattern == "/" { pattern } else { pattern.trim_end_matches('/') };
            let glob = super::glob(trimmed).map_err(|error| (pattern.to_owned(), error))?;
            match (trimmed.starts_with('/'), trimmed.contains('/')) {
                (true, _) => absolute.add(glob),
                (false, true) => relative.add(glob),
                (false, false) => names.add(glob),
            };
        }
        let build = |set: GlobSetBuilder| set.build().map_err(|error| (String::new(), error));
        Ok(Self { absolute: build(absolute)?, relative: build(relative)?, names: build(names)? })
    }

    /// Whether an entry is left out. `relative` is its path below the configured one.
    pub fn matches(&self, absolute: &[u8], relative: &[u8]) -> bool {
        let matched = |set: &GlobSet, path| !set.is_empty() && set.is_match_candidate(&Candidate::from_bytes(path));
        let name = relative.rsplit(|byte| *byte == b'/').next().unwrap_or(relative);
        matched(&self.absolute, absolute) || matched(&self.relative, relative) || matched(&self.names, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_without_wildcards_is_a_name() {
        let table = [("logs", Some("logs")), ("demo [[]1[]]", Some("demo [1]")), ("a\\*", Some("a*")), ("a*", None)];
        for (component, name) in table.into_iter().chain([("[ab]", None), ("[!a]", None), ("{a,b}", None), ("[", None)])
        {
            assert_eq!(super::super::literal(component).as_deref(), name, "{component}");
        }
        let escaped = globset::escape("a[b]{c}*?");
        assert_eq!(super::super::literal(&escaped).as_deref(), Some("a[b]{c}*?"), "{escaped}");
    }

    #[test]
    fn patterns_mean_what_the_page_says() {
        let table: [(&[&str], &str, &str, bool); 14] = [
            (&["**/tmp/**"], "/srv/a/tmp/x", "a/tmp/x", true),
            (&["**/tmp/**"], "/srv/a/tmp", "a/tmp", false),
            (&["**/tmp/**"], "/tmp/srv/a", "a", false),
            (&["**/tmp"], "/srv/tmp", "tmp", true),
            (&["tmp"], "/srv/tmp", "tmp", true),
            (&["tmp"], "/srv/a/tmp", "a/tmp", true),
            (&["/srv/tmp"], "/srv/tmp", "tmp", true),
            (&["/tmp"], "/srv/tmp", "tmp", false),
            (&["*.log"], "/srv/d/a.log", "d/a.log", true),
            (&["d/*.log"], "/srv/d/a.log", "d/a.log", true),
            (&["d/*.log"], "/srv/e/d/a.log", "e/d/a.log", false),
            (&["cache/"], "/srv/cache", "cache", true),
            (&["{a,b}/?.x"], "/srv/b/1.x", "b/1.x", true),
            (&[], "/srv/a", "a", false),
        ];
        for (patterns, absolute, relative, wanted) in table {
            let exclude = Exclude::new(patterns).unwrap();
            assert_eq!(exclude.matches(absolute.as_bytes(), relative.as_bytes()), wanted, "{patterns:?} {absolute}");
        }
        assert_eq!(Exclude::new(&["ok", "a["]).unwrap_err().0, "a[");
    }
}
