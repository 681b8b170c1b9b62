//! Files of `irepair-cli` that import one another in a circle.

use std::collections::{BTreeMap, BTreeSet};

/// The files of this directory are checked.
const DIR: &str = "crates/irepair-cli/src/";

/// Imports by file, as module names.
#[derive(Debug, Default)]
pub(super) struct Imports(BTreeMap<String, BTreeSet<String>>);

impl Imports {
    /// Adds a file; `name` is its path from the root.
    pub(super) fn add(&mut self, name: &str, text: &str) {
        let Some(module) = name.strip_prefix(DIR).and_then(|file| file.strip_suffix(".rs")) else { return };
        let of_path = |path: &str| path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let imported = text.split("crate::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => {
                list.split('}').next().unwrap_or_default().split(',').map(|path| of_path(path.trim())).collect()
            }
            None => vec![of_path(rest)],
        });
        self.0.insert(module.to_owned(), imported.filter(|other| other != module).collect());
    }

    /// A violation for every file that is left when files without imports are taken away, again and again.
    pub(super) fn violations(mut self) -> Vec<String> {
        loop {
            let left: BTreeSet<String> = self.0.keys().cloned().collect();
            self.0.retain(|_, imported| imported.iter().any(|other| left.contains(other)));
            if self.0.len() == left.len() {
                return left
                    .iter()
                    .map(|module| format!("{DIR}{module}.rs: is in, or imports, a circle of files"))
                    .collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_and_a_chain_is_not() {
        let of = |files: [(&str, &str); 3]| {
            let mut imports = Imports::default();
            files.iter().for_each(|(name, text)| imports.add(&format!("{DIR}{name}.rs"), text));
            imports.violations()
        };
        assert_eq!(of([("a", "use crate::b::x;"), ("b", "use crate::{c, d};"), ("c", "")]), [""; 0]);
        assert_eq!(of([("a", "use crate::b::x;"), ("b", "use crate::{c, a::y};"), ("c", "")]).len(), 2);
    }
}
