//! What the documents promise is shown by a test that exists. Every table with a column `test`, `shown by`, `check` or `its
//! control` is read: a row whose cell there names nothing fails, and so does a name that nothing has. In a cell of these
//! columns each word in backticks is a reference (a control may be told in words instead):
//!
//! | in backticks | means |
//! |---|---|
//! | `a_test` | a test that runs with `cargo test`, by the name of its function; `a_te…` by how it begins |
//! | `module::` | all tests of this file |
//! | `by hand: a_test` | a test that is `#[ignore]`d, since it takes long |
//! | `check: name` | a check of the web page in a browser (`oob-daemon/tests/browser`) |
//! | `step: name` | a step of `.ci/run` |
//! | `control: name` | a line that `.ci/controls` takes away |
//! | `demo: name` | a step of the demo |
//! | `bench: name` | a program of `benches/` |

use crate::layers::{CRATES, code, root};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Documents with promises, and how many rows of them there must be at least: a table that loses its heading is missed.
const DOCUMENTS: [(&str, usize); 7] = [
    ("SECURITY.md", 30),
    ("README.md", 15),
    ("docs/threat-model.md", 32),
    ("docs/storage.md", 8),
    ("docs/testing.md", 70),
    ("docs/protocol.md", 12),
    ("docs/web.md", 5),
];

#[test]
fn every_promise_names_a_test_that_exists() {
    let known = Known::read(&root());
    assert!(known.tests.len() > 400, "only {} tests were found", known.tests.len());
    let mut wrong = Vec::new();
    for (document, least) in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let (rows, faults) = check(&text, &known);
        wrong.extend(faults.into_iter().map(|fault| format!("{document}:{fault}")));
        if rows < least {
            wrong.push(format!("{document}: only {rows} rows of promises, of at least {least}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The control: a made-up document with faults, and sources in which only some of its names are tests.
#[test]
fn a_promise_without_a_test_is_found() {
    let mut known = Known::default();
    known.add_sources("tests/it/mail.rs", MADE_UP);
    known.steps = ["demo in 20 s", "fuzz "].map(str::to_owned).into();
    known.checks = ["it_can_be_used_by_keyboard"].map(str::to_owned).into();
    let found = |tests: &BTreeMap<String, bool>| tests.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        found(&known.tests),
        ["any_bytes_never_panic", "it_waits", "mail_arrives_once", "takes_two_minutes"]
    );

    let good = "| promise | test |\n|---|---|\n\
        | once | `mail_arrives_once`, and `any_bytes_…` |\n\
        | a pipe \\| in `a\\|b`| `mail::` |\n\
        | the page | `check: it_can_be_used_by_keyboard`, `step: fuzz frame`, `step: demo in 20 s` |\n\
        | long | `by hand: takes_two_minutes` |\n\n\
        | key | does |\n|---|---|\n| Enter | `nothing_of_a_test` |\n\n\
        | test | its control |\n|---|---|\n| x (`it_waits`) | without it all is lost |\n";
    assert_eq!(check(good, &known), (5, Vec::new()));

    for (row, fault) in [
        ("| once | |", "3: names no test"),
        ("| once | see the sources |", "3: names no test"),
        ("| once |", "3: names no test"),
        ("| once | `mail_arrives_twice` |", "3: there is no test mail_arrives_twice"),
        ("| once | `mail_arrives_once`, `gone` |", "3: there is no test gone"),
        ("| once | `commented_out` |", "3: there is no test commented_out"),
        ("| once | `in_a_string` |", "3: there is no test in_a_string"),
        ("| once | `helper` |", "3: there is no test helper"),
        ("| once | `takes_two_minutes` |", "3: takes_two_minutes is run by hand only"),
        ("| once | `by hand: mail_arrives_once` |", "3: mail_arrives_once needs no hand"),
        ("| once | `post::` |", "3: there is no module post with tests"),
        ("| once | `check: it_flies` |", "3: there is no check it_flies"),
        ("| once | `step: demo` |", "3: there is no step demo"),
        ("| once | `wish: it works` |", "3: there is no kind of evidence wish"),
    ] {
        let bad = format!("| promise | shown by |\n|---|---|\n{row}\n");
        assert_eq!(check(&bad, &known), (1, vec![fault.to_owned()]), "{row}");
    }
    let control = "| test | its control |\n|---|---|\n| `it_waits` | |\n| `it_waits` | `gone_with_the_line_it_had` |\n";
    let faults =
        ["3: names no test", "4: there is no test gone_with_the_line_it_had"].map(str::to_owned);
    assert_eq!(check(control, &known), (2, faults.to_vec()));
    let prose = "As `mail_arrives_only_once_a_day` shows.\n`mail_arrives_once` does; `a_field_name` is none.\n";
    let fault = "1: reads like a test and is none: mail_arrives_only_once_a_day".to_owned();
    assert_eq!(check(prose, &known), (0, vec![fault]));
}

const MADE_UP: &str = r#"
    fn helper() {}
    #[test]
    fn mail_arrives_once() {}
    #[tokio::test(flavor = "multi_thread")]
    #[cfg(unix)]
    async fn it_waits() {}
    // #[test]
    // fn commented_out() {}
    const TEXT: &str = "
    #[test]
    fn in_a_string() {}";
    #[test]
    #[ignore = "long"]
    fn takes_two_minutes() {}
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_never_panic(bytes in any::<u8>()) {}
    }
"#;

/// Everything that counts as evidence.
#[derive(Default)]
struct Known {
    /// By name: whether `cargo test` runs it.
    tests: BTreeMap<String, bool>,
    /// Files with tests in them, by their stem.
    modules: BTreeSet<String>,
    checks: BTreeSet<String>,
    /// Up to the first variable.
    steps: BTreeSet<String>,
    controls: BTreeSet<String>,
    demo: BTreeSet<String>,
    benches: BTreeSet<String>,
}

impl Known {
    fn read(root: &Path) -> Self {
        let mut known = Self::default();
        for (_, folder, ..) in CRATES {
            let folder = root.join(folder);
            let main = fs::read_to_string(folder.join("tests/it/main.rs")).unwrap_or_default();
            let mut files = Vec::new();
            for part in ["src", "tests"] {
                collect(&folder.join(part), "rs", &mut files);
            }
            for path in files {
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
                // A file that main.rs does not name is not compiled.
                let stem = path.file_stem().unwrap().to_str().unwrap();
                if name.starts_with("tests/it/") && stem != "main" {
                    let declared = main.lines().any(|line| line == format!("mod {stem};"));
                    assert!(declared, "{name} is in no test binary");
                }
                known.add_sources(&name, &fs::read_to_string(&path).unwrap());
            }
        }
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        known.steps = quoted(&text(".ci/run"), "step \"");
        known.controls = quoted(&text(".ci/controls"), "\ncontrol \"");
        known.demo = quoted(&text("oob-daemon/src/demo/stage.rs"), "begin(\"");
        let checks = text("oob-daemon/tests/browser/checks.mjs");
        let list = checks.split_once("export const CHECKS = [").unwrap().1;
        known.checks = words(list.split_once(']').unwrap().0);
        let mut benches = Vec::new();
        collect(&root.join("benches/src/bin"), "rs", &mut benches);
        known.benches = benches
            .iter()
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        known
    }

    /// Notes every test of a source: a function right under an attribute that makes it one.
    fn add_sources(&mut self, path: &str, text: &str) {
        let before = self.tests.len();
        let (mut test, mut ignored) = (false, false);
        for line in code(text).lines().map(str::trim) {
            if line.starts_with("#[") {
                test |= ["#[test]", "#[tokio::test]", "#[tokio::test("]
                    .iter()
                    .any(|attribute| line.starts_with(attribute));
                ignored |= line.starts_with("#[ignore");
            } else if !line.is_empty() {
                let name = line.trim_start_matches("async ").strip_prefix("fn ");
                if let (true, Some(rest)) = (test, name) {
                    let name = rest.split(['(', '<']).next().unwrap_or_default();
                    let runs = self.tests.entry(name.to_owned()).or_default();
                    *runs |= !ignored;
                }
                (test, ignored) = (false, false);
            }
        }
        if self.tests.len() > before {
            let stem = Path::new(path).file_stem().unwrap().to_str().unwrap();
            self.modules.insert(stem.to_owned());
        }
    }

    /// Why a reference is none.
    fn missing(&self, reference: &str) -> Option<String> {
        if let Some(module) = reference.strip_suffix("::") {
            return (!self.modules.contains(module))
                .then(|| format!("there is no module {module} with tests"));
        }
        let Some((kind, name)) = reference.split_once(": ") else {
            return match self.runs(reference) {
                Some(true) => None,
                Some(false) => Some(format!("{reference} is run by hand only")),
                None => Some(format!("there is no test {reference}")),
            };
        };
        let there = match kind {
            "by hand" => match self.runs(name) {
                Some(false) => return None,
                Some(true) => return Some(format!("{name} needs no hand")),
                None => return Some(format!("there is no test {name}")),
            },
            "check" => self.checks.iter().any(|check| names(name, check)),
            "step" => self.steps.iter().any(|step| {
                step == name || (step.ends_with([' ', ':']) && name.starts_with(step.as_str()))
            }),
            "control" => self.controls.contains(name),
            "demo" => self.demo.contains(name),
            "bench" => self.benches.contains(name),
            other => return Some(format!("there is no kind of evidence {other}")),
        };
        (!there).then(|| format!("there is no {kind} {name}"))
    }

    /// Whether `cargo test` runs the test of this name, or the first that begins so.
    fn runs(&self, name: &str) -> Option<bool> {
        self.tests.iter().find(|(test, _)| names(name, test)).map(|(_, runs)| *runs)
    }
}

/// Whether a reference means this name: all of it, or the beginning in front of `…`.
fn names(reference: &str, name: &str) -> bool {
    match reference.strip_suffix('…') {
        Some(beginning) => beginning.len() > 8 && name.starts_with(beginning),
        None => name == reference,
    }
}

/// Adds all files of a folder with this extension.
fn collect(folder: &Path, extension: &str, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
}

/// What stands between this beginning and the next quote, or the next variable, wherever it occurs.
fn quoted(text: &str, beginning: &str) -> BTreeSet<String> {
    text.split(beginning)
        .skip(1)
        .filter_map(|rest| rest.split(['"', '$']).next())
        .map(str::to_owned)
        .collect()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns how many rows of promises a document has, and its faults, each behind the number of its line.
fn check(document: &str, known: &Known) -> (usize, Vec<String>) {
    let (mut rows, mut faults) = (0, Vec::new());
    // Of the table that is being read: what its columns are for.
    let mut columns: Option<Vec<Column>> = None;
    let lines: Vec<&str> = document.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let number = at + 1;
        if !line.starts_with('|') {
            columns = None;
            let loose = backticked(line).into_iter().filter(|word| like_a_test(word));
            faults.extend(
                loose
                    .filter(|word| known.missing(word).is_some())
                    .map(|word| format!("{number}: reads like a test and is none: {word}")),
            );
            continue;
        }
        let cells = cells(line);
        let Some(columns) = &columns else {
            columns = Some(cells.iter().map(|cell| Column::of(cell)).collect());
            continue;
        };
        if line.starts_with("|---") || columns.iter().all(|column| *column == Column::Words) {
            continue;
        }
        rows += 1;
        for (i, column) in columns.iter().enumerate() {
            let cell = cells.get(i).map(String::as_str).unwrap_or_default();
            let references = backticked(cell);
            let enough = match column {
                Column::Words => continue,
                Column::Evidence | Column::Checks => !references.is_empty(),
                Column::Control => !cell.is_empty(),
            };
            if !enough {
                faults.push(format!("{number}: names no test"));
            }
            for reference in references {
                if *column == Column::Control
                    && !like_a_test(&reference)
                    && !reference.contains(": ")
                {
                    continue;
                }
                let reference = match column {
                    Column::Checks => format!("check: {reference}"),
                    _ => reference,
                };
                faults.extend(known.missing(&reference).map(|why| format!("{number}: {why}")));
            }
        }
    }
    (rows, faults)
}

/// What a column of a table is for.
#[derive(PartialEq)]
enum Column {
    Words,
    Evidence,
    Checks,
    Control,
}

impl Column {
    fn of(heading: &str) -> Self {
        match heading {
            "test" | "shown by" => Self::Evidence,
            "check" => Self::Checks,
            "control" | "its control" => Self::Control,
            _ => Self::Words,
        }
    }
}

/// Four words and more: so long only tests are called here.
fn like_a_test(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && word.matches('_').count() > 3
}

/// The cells of a row, trimmed.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner).replace("\\|", "\u{1}");
    inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// What stands in backticks.
fn backticked(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
