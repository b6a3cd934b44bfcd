//! One direction, for every crate of the house: crates depend only along the edges of the architecture, and inside a crate
//! a module imports only modules of its own layer and those above it in `lib.rs`. rustfmt sorts the modules of a layer by
//! name, so their order says nothing: they may import each other as long as no circle comes of it. In a layer whose
//! heading says `features` they know nothing of each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every crate of ours, its folder, what it may depend on, and what only its tests may.
pub(crate) const CRATES: [(&str, &str, &[&str], &[&str]); 10] = [
    ("oob-proto", "proto", &[], &[]),
    ("oob-crypto", "oob-core/crypto", &["oob-proto"], &[]),
    ("oob-store", "oob-core/store", &["oob-proto", "oob-crypto"], &[]),
    ("oob-mesh", "oob-core/mesh", &["oob-proto"], &[]),
    // Its own tests need it with the simulator.
    ("oob-engine", "oob-core/engine", &["oob-proto", "oob-crypto", "oob-store"], &["oob-engine"]),
    (
        "oob-core",
        "oob-core",
        &["oob-proto", "oob-crypto", "oob-store", "oob-mesh", "oob-engine"],
        // With the fuzzers' ways in.
        &["oob-core"],
    ),
    // With the fuzzers' ways in.
    ("oob-daemon", "oob-daemon", &["oob-core"], &["oob-netlab", "oob-daemon"]),
    ("oob-netlab", "oob-daemon/netlab", &[], &[]),
    ("oob-examples", "examples", &["oob-core"], &[]),
    (
        "oob-benches",
        "benches",
        &["oob-proto", "oob-crypto", "oob-store", "oob-engine", "oob-core", "oob-daemon"],
        &[],
    ),
];

#[test]
fn crates_depend_only_along_the_edges_of_the_architecture() {
    let mut wrong = Vec::new();
    for (name, folder, edges, test_edges) in CRATES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let found = dependencies(&manifest);
        for (dependency, only_tests) in &found {
            let allowed = edges.contains(&dependency.as_str())
                || (*only_tests && test_edges.contains(&dependency.as_str()));
            if !allowed {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
        if name == "oob-core" {
            let built_in = found.iter().filter(|(_, only_tests)| !only_tests).count();
            assert_eq!(built_in, 5, "the manifest was not read: {found:?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_crate_of_the_workspace_is_in_the_table() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let members: BTreeSet<_> =
        members.split(',').map(|m| m.trim().trim_matches('"')).filter(|m| !m.is_empty()).collect();
    let table: BTreeSet<_> = CRATES.iter().map(|(_, folder, ..)| *folder).collect();
    assert_eq!(members, table);
}

#[test]
fn modules_import_only_from_layers_below() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, folder, ..) in CRATES {
        let sources = read(&root().join(folder).join("src"));
        seen += sources.len();
        wrong.extend(check(&sources).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(seen > 60, "only {seen} files were read");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The control: made-up crates, each with one fault that must be found, or none.
#[test]
fn faults_are_found_and_nothing_else() {
    let lib = "// layer: words\nmod word;\nmod other;\n// layer: features\nmod alert;\npub mod file;\n\
               // layer: whole\nmod engine;\npub use engine::Engine;\npub use word::{Word, WordError};\n";
    let table: [(&str, &str, &[&str]); 15] = [
        ("engine.rs", "use crate::{word::Word, alert::{A, b::C}, file};", &[]),
        ("other.rs", "use crate::word::Word;", &[]),
        ("alert.rs", "use crate::{Word, WordError};", &[]),
        ("word.rs", "use crate::other::Other;", &[]),
        ("word.rs", "use crate::Engine;", &["word imports engine"]),
        ("word.rs", "use super::engine::Engine;", &["word imports engine"]),
        ("word.rs", "fn f() { crate::engine::run() }", &["word imports engine"]),
        ("word/deep.rs", "use super::super::engine;", &["word imports engine"]),
        ("word/deep.rs", "use super::near; use crate::word::near;", &[]),
        (
            "word/mod.rs",
            "use super::{alert, engine as e};",
            &["word imports alert", "word imports engine"],
        ),
        (
            "word.rs",
            "// use crate::engine;\n/* crate::engine */ const T: &str = \"crate::engine\";",
            &[],
        ),
        ("word.rs", "#[cfg(test)]\nmod tests {\n use super::*;\n use crate::engine;\n}\n", &[]),
        (
            "word.rs",
            "#[cfg(test)]\nmod tests {\n fn f() {}\n}\nuse crate::engine;",
            &["word imports engine"],
        ),
        ("file.rs", "use crate::{word, alert::Alert};", &["file imports its sibling alert"]),
        ("word.rs", "use crate::nowhere;", &["word imports nowhere, which lib.rs does not name"]),
    ];
    for (path, text, expected) in table {
        let sources = vec![
            Source { path: "lib.rs".into(), text: lib.into() },
            Source { path: path.into(), text: text.into() },
        ];
        assert_eq!(check(&sources), expected, "{path}: {text}");
    }
    let circle =
        [("lib.rs", lib), ("word.rs", "use crate::other;"), ("other.rs", "use super::word;")]
            .map(|(path, text)| Source { path: path.into(), text: text.into() });
    assert_eq!(
        check(&circle),
        ["other is in, or builds on, a circle", "word is in, or builds on, a circle"]
    );
    let bare = [Source { path: "lib.rs".into(), text: "mod word;\n".into() }];
    assert_eq!(check(&bare), ["word stands under no layer"]);
    let manifest = "[dependencies]\noob-proto.workspace = true\noob-mesh = { path = \"x\" }\n[dev-dependencies]\noob-x = \"1\"\n";
    let found = dependencies(manifest);
    assert_eq!(found.len(), 3);
    assert!(found.contains(&("oob-mesh".into(), false)) && found.contains(&("oob-x".into(), true)));
}

/// One file, by its path under `src`.
struct Source {
    path: String,
    text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(folder: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources
}

/// Our own crates that a manifest names, and whether only its tests need them.
fn dependencies(manifest: &str) -> BTreeSet<(String, bool)> {
    let mut found = BTreeSet::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
        } else if section.contains("dependencies") && line.starts_with("oob-") {
            let name = line.split([' ', '.', '=']).next().unwrap_or_default();
            found.insert((name.to_owned(), section.contains("dev-dependencies")));
        }
    }
    found
}

/// Where a module stands: the layer's place in lib.rs and its heading.
#[derive(Clone, PartialEq)]
struct Place {
    layer: usize,
    heading: String,
}

/// What lib.rs says: the layer of each module, and in which module a name of the root lives.
fn plan(lib: &str) -> (BTreeMap<String, Place>, BTreeMap<String, String>) {
    let mut places = BTreeMap::new();
    let mut here = Place { layer: 0, heading: String::new() };
    for line in lib.lines() {
        if let Some(heading) = line.strip_prefix("// layer: ") {
            here = Place { layer: here.layer + 1, heading: heading.to_owned() };
        }
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            places.insert(name.to_owned(), here.clone());
        }
    }
    let mut names = BTreeMap::new();
    let code = code(lib);
    for statement in code.split(';') {
        let Some((_, path)) = statement.rsplit_once("pub use ") else { continue };
        let Some((module, rest)) = path.split_once("::") else { continue };
        for name in rest.split(|c: char| !c.is_alphanumeric() && c != '_') {
            names.insert(name.to_owned(), module.trim().to_owned());
        }
    }
    (places, names)
}

/// Returns every fault of a crate.
fn check(sources: &[Source]) -> Vec<String> {
    let Some(lib) = sources.iter().find(|source| source.path == "lib.rs") else {
        return vec!["no lib.rs".into()];
    };
    let (places, names) = plan(&lib.text);
    let mut faults: Vec<_> = places
        .iter()
        .filter(|(_, place)| place.layer == 0)
        .map(|(name, _)| format!("{name} stands under no layer"))
        .collect();
    let mut sideways: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let parts: Vec<_> = source.path.trim_end_matches(".rs").split('/').collect();
        let (module, depth) = match parts.as_slice() {
            ["lib" | "main"] | ["bin", ..] => continue,
            [module, inner @ .., "mod"] => (*module, inner.len()),
            [module, inner @ ..] => (*module, inner.len()),
            [] => continue,
        };
        let Some(here) = places.get(module) else { continue };
        let mut seen = BTreeSet::new();
        for name in imports(&without_tests(&source.text), depth) {
            let target = if places.contains_key(&name) {
                name
            } else {
                names.get(&name).cloned().unwrap_or(name)
            };
            let elsewhere = target.starts_with("oob_");
            if target == module || elsewhere || !seen.insert(target.clone()) {
                continue;
            }
            match places.get(&target) {
                // A macro or a generated name is written in full where it is used, never by `crate::`.
                None => {
                    faults.push(format!("{module} imports {target}, which lib.rs does not name"))
                }
                Some(there) if there == here && here.heading.contains("features") => {
                    faults.push(format!("{module} imports its sibling {target}"));
                }
                Some(there) if there == here => {
                    sideways.entry(module.to_owned()).or_default().insert(target);
                }
                Some(there) if there.layer > here.layer => {
                    faults.push(format!("{module} imports {target}"));
                }
                Some(_) => {}
            }
        }
    }
    faults.extend(circles(&sideways));
    faults
}

/// Modules of one layer that import each other in a circle.
fn circles(sideways: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut left = sideways.clone();
    // Whoever imports nobody that is left stands below; in the end only circles, and who builds on them, are left.
    loop {
        let importing: BTreeSet<String> = left.keys().cloned().collect();
        let before = importing.len();
        left.retain(|_, imports| imports.iter().any(|import| importing.contains(import)));
        if left.len() == before {
            break;
        }
    }
    left.into_keys().map(|module| format!("{module} is in, or builds on, a circle")).collect()
}

/// The names right under the root of the crate that a text mentions, from a module `depth` levels below a top one.
fn imports(text: &str, depth: usize) -> Vec<String> {
    let code = code(text);
    let up = "super::".repeat(depth + 1);
    let mut found = Vec::new();
    for (start, prefix) in
        ["crate::", up.as_str()].iter().flat_map(|prefix| code.match_indices(prefix))
    {
        let before = code.get(..start).unwrap_or_default();
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
            || before.ends_with("super::")
        {
            continue;
        }
        let rest = code.get(start + prefix.len()..).unwrap_or_default();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_names(group)),
            None => found.extend(first_name(rest)),
        }
    }
    found
}

fn first_name(text: &str) -> Option<String> {
    let text = text.trim_start();
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // `crate::*`, `super::super` beyond the root: nothing to look up.
    (!name.is_empty() && name != "super" && name != "self").then_some(name)
}

/// The first names of the items of a group whose brace is open already.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut found) = (0_i32, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.extend(first_name(&std::mem::take(&mut item))),
            c if depth == 0 => item.push(c),
            _ => {}
        }
    }
    found.extend(first_name(&item));
    found
}

/// A text without its inline `#[cfg(test)] mod … { … }`: tests may look at anything.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let module = lines.peek().is_some_and(|next| next.contains("mod ") && next.ends_with('{'));
        if line.trim() == "#[cfg(test)]" && module {
            let indent = line.len() - line.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            for inner in lines.by_ref() {
                if inner == end {
                    break;
                }
            }
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// A text without comments and without what stands in strings.
pub(crate) fn code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest.get(open..)
                .and_then(|inner| inner.find(&end))
                .map_or(rest.len(), |at| at + open + end.len())
        } else if c == '"' {
            string(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    out
}

fn raw_string(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('r')?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    inner.get(hashes..)?.starts_with('"').then_some(hashes)
}

/// Bytes of the string literal a text starts with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
