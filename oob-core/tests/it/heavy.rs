//! `.ci/run` runs again, with `OOB_HEAVY`, the tests that this changes, and no others. Its list is compared with the sources
//! here: a test that reads the variable, or calls what does, and is not in the list would never run at its full size.

use crate::layers::{CRATES, root};
use std::{collections::BTreeSet, fs, path::Path};

/// What a test asks for, in its own words or through what it calls.
const VARIABLE: &str = "OOB_HEAVY";

#[test]
fn every_heavy_test_is_run_with_the_heavy_suites() {
    let list = list(&fs::read_to_string(root().join(".ci/run")).unwrap());
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    let mut found = 0;
    for (_, folder, ..) in CRATES {
        for test in heavy_tests(&sources(&root().join(folder).join("tests/it"))) {
            found += 1;
            let runs: Vec<_> = list.iter().filter(|part| test.contains(part.as_str())).collect();
            if runs.is_empty() {
                wrong.push(test);
            }
            used.extend(runs);
        }
    }
    assert!(found >= 20, "only {found} heavy tests were found");
    assert!(wrong.is_empty(), "not in `heavy` of .ci/run: {wrong:#?}");
    let unused: Vec<_> = list.iter().filter(|part| !used.contains(part)).collect();
    assert!(unused.is_empty(), "`heavy` of .ci/run names what is not there: {unused:?}");
}

/// The control: what is called by way of others, and what is not heavy.
#[test]
fn a_test_is_heavy_by_what_it_calls() {
    let files = [
        ("main", "fn asked() -> bool {\n    var_os(\"OOB_HEAVY\").is_some()\n}\n"),
        (
            "ground",
            "pub(crate) fn inside(run: impl Fn()) {\n    if !asked() {}\n}\nfn other() {}\n",
        ),
        (
            "cut",
            "fn rounds() { inside(|| {}) }\n#[test]\nfn by_another() {\n    rounds();\n}\n\
             #[test]\nfn light() {\n    // inside(\n    other();\n}\n\
             impl A {\n    fn of() { asked(); }\n}\n\
             #[test]\nfn by_a_method() {\n    A::of();\n}\n",
        ),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    assert_eq!(heavy_tests(&files), ["cut::by_another", "cut::by_a_method"]);
    assert_eq!(list("x\nheavy=(a:: b)\n"), ["a::", "b"]);
}

/// The list in the script.
fn list(script: &str) -> Vec<String> {
    let line = script.lines().find_map(|line| line.strip_prefix("heavy=(")).unwrap();
    line.trim_end_matches(')').split_whitespace().map(str::to_owned).collect()
}

/// The modules of a test program, with their text.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        // This one names the variable, and has made-up sources.
        .filter(|path| path.file_stem().is_some_and(|name| name != "heavy"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

struct Function {
    module: String,
    name: String,
    is_test: bool,
    text: String,
}

/// The paths of all tests that read the variable or call, by however many others, what does. Functions are told apart by
/// their names alone, so at worst a test counts as heavy that is not.
fn heavy_tests(files: &[(String, String)]) -> Vec<String> {
    let functions: Vec<Function> =
        files.iter().flat_map(|(module, text)| functions(module, text)).collect();
    let mut heavy: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = heavy.len();
        for function in &functions {
            let calls = |name: &&str| function.text.contains(&format!("{name}("));
            if function.text.contains(VARIABLE) || heavy.iter().any(calls) {
                heavy.insert(&function.name);
            }
        }
        if heavy.len() == before {
            break;
        }
    }
    let tests = functions.iter().filter(|one| one.is_test && heavy.contains(one.name.as_str()));
    tests.map(|one| format!("{}::{}", one.module, one.name)).collect()
}

/// Cuts a module into its functions, without comments.
fn functions(module: &str, text: &str) -> Vec<Function> {
    let mut found: Vec<Function> = Vec::new();
    let mut attributes = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or("");
        let words =
            line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("async ");
        if let Some((name, rest)) =
            words.strip_prefix("fn ").and_then(|rest| rest.split_once(['(', '<']))
        {
            let is_test = attributes.contains("#[test]") || attributes.contains("#[tokio::test");
            let (module, name) = (module.to_owned(), name.to_owned());
            found.push(Function { module, name, is_test, text: rest.to_owned() });
            attributes.clear();
        } else if words.starts_with("#[") {
            attributes.push_str(words);
        } else {
            if let Some(last) = found.last_mut() {
                last.text.push_str(line);
                last.text.push('\n');
            }
            if !line.trim().is_empty() {
                attributes.clear();
            }
        }
    }
    found
}
