//! Where an included file is: next to the including one, then along the search path; or what its URI says.

use std::path::{Path, PathBuf};

/// Overrides the search path; elements are separated by colons.
const VARIABLE: &str = "EC_CONF_SEARCH_PATH";

/// Where Momentum looks, our own folder first.
const STANDARD: &[&str] = &[
    "/etc/posthaste",
    "/opt/msys/ecelerity/etc",
    "/opt/msys/ecelerity/etc/conf/global",
    "/opt/msys/ecelerity/etc/conf/{NODENAME}",
    "/opt/msys/ecelerity/etc/conf/default",
];

/// What an include names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    File(PathBuf),
    Folder(PathBuf),
    /// A persistent cache that has nothing yet: an empty file that lies nowhere.
    Virtual(String),
}

/// Folders to look in.
pub(crate) struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    pub(crate) fn from_environment() -> SearchPath {
        let elements = std::env::var(VARIABLE)
            .map(|path| path.split(':').filter(|e| !e.is_empty()).map(str::to_string).collect())
            .unwrap_or_else(|_| STANDARD.iter().map(|e| (*e).to_string()).collect::<Vec<_>>());
        let nodename = std::env::var("EC_NODENAME").unwrap_or_else(|_| crate::host::name());
        let subcluster = std::env::var("EC_SUBCLUSTER").unwrap_or_else(|_| "default".into());
        SearchPath(
            elements
                .iter()
                .map(|e| PathBuf::from(e.replace("{NODENAME}", &nodename).replace("{SUBCLUSTER}", &subcluster)))
                .collect(),
        )
    }

    /// Looks for what an include names. The error is what is wrong and how to mend it.
    pub(crate) fn find(&self, target: &str, folder: Option<&Path>) -> Result<Found, (String, Option<String>)> {
        if let Some((scheme, rest)) = target.split_once("://") {
            let path = Path::new(rest);
            return match scheme.to_ascii_lowercase().as_str() {
                "file" => classify(path).ok_or_else(|| missing(target, &[path.to_path_buf()])),
                "persist" => Ok(classify(path).unwrap_or_else(|| Found::Virtual(target.to_string()))),
                _ => Err((
                    format!("nothing here reads `{scheme}://`"),
                    Some("allowed are paths, `file://` and `persist://`".into()),
                )),
            };
        }
        let path = Path::new(target);
        if path.is_absolute() {
            return classify(path).ok_or_else(|| missing(target, &[path.to_path_buf()]));
        }
        let here = match folder {
            Some(folder) => folder.join(path),
            None => path.to_path_buf(),
        };
        let tried: Vec<PathBuf> = std::iter::once(here).chain(self.0.iter().map(|e| e.join(path))).collect();
        tried.iter().find_map(|candidate| classify(candidate)).ok_or_else(|| missing(target, &tried))
    }
}

fn classify(path: &Path) -> Option<Found> {
    let meta = std::fs::metadata(path).ok()?;
    Some(if meta.is_dir() { Found::Folder(path.to_path_buf()) } else { Found::File(path.to_path_buf()) })
}

fn missing(target: &str, tried: &[PathBuf]) -> (String, Option<String>) {
    let places: Vec<String> = tried.iter().map(|path| path.display().to_string()).collect();
    (format!("there is no `{target}` to include"), Some(format!("looked for {}", places.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_including_file_goes_before_the_search_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["here", "first", "second"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        for name in ["here/a", "first/a", "first/b", "second/b", "second/c"] {
            std::fs::write(path(name), "").unwrap();
        }
        let search = SearchPath(vec![path("first"), path("second")]);
        let here = path("here");
        for (target, wanted) in [("a", "here/a"), ("b", "first/b"), ("c", "second/c")] {
            assert_eq!(search.find(target, Some(&here)), Ok(Found::File(path(wanted))));
        }
        assert_eq!(search.find("second", Some(folder.path())), Ok(Found::Folder(path("second"))));
        let (message, help) = search.find("d", Some(&here)).unwrap_err();
        assert_eq!(message, "there is no `d` to include");
        assert_eq!(help.unwrap().matches("/d").count(), 3);
        assert_eq!(search.find("persist:///no/such", None), Ok(Found::Virtual("persist:///no/such".into())));
        assert!(search.find("file:///no/such", None).is_err());
    }
}
