//! Completion as a shell does it, and the manual pages.

use crate::harness::{Done, Home, Two};
use std::{fs, process::Command};

/// Lets bash complete a line whose last word is being typed, and returns what it offers.
fn offered(home: &Home, script: &str, words: &[&str]) -> Option<Vec<String>> {
    let path = home.dir.path().join("complete.bash");
    fs::write(&path, script).unwrap();
    let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let ask = format!(
        "set -eu; set +eu; source '{}'; f=$(complete -p oob | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
         COMP_WORDS=(oob {}); COMP_CWORD={}; COMP_LINE=\"${{COMP_WORDS[*]}}\"; COMP_POINT=${{#COMP_LINE}}; \
         $f oob \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        path.display(),
        line.join(" "),
        words.len(),
    );
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_oob"));
    let found = format!("{}:/usr/local/bin:/usr/bin:/bin", binary.parent().unwrap().display());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &ask]).env("PATH", found).env("OOB_HOME", home.path());
    let Ok(output) = bash.output() else {
        eprintln!("SKIPPED: there is no bash here");
        return None;
    };
    let done = Done::of(&output);
    assert_eq!(done.stderr, "", "{ask}");
    Some(done.stdout.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
}

#[test]
fn bash_completes_commands_options_and_the_names_of_the_others() {
    let two = Two::met();
    // A name is what its bearer made of it.
    let third = Home::of("Rosa $(touch x);`y` 'del' Mar", None);
    third.up();
    third.json(&["join", two.dana.invite().to_str().unwrap()]);
    let script = two.dana.oob(&["completions", "bash"]).stdout;
    let complete = |words: &[&str]| offered(&two.dana, &script, words);
    let Some(commands) = complete(&["doc"]) else { return };
    assert_eq!(commands, ["doctor"]);
    assert_eq!(complete(&["up", "--fore"]).unwrap(), ["--foreground"]);
    assert_eq!(complete(&["up", "--chi"]).unwrap(), Vec::<String>::new());
    assert_eq!(complete(&["__"]).unwrap(), Vec::<String>::new());
    // Whoever is not oneself, whatever the case, and as one word of the shell.
    let rosa = r"Rosa\ \$\(touch\ x\)\;\`y\`\ \'del\'\ Mar";
    assert_eq!(complete(&["send", ""]).unwrap(), [rosa, "Sam"]);
    assert_eq!(complete(&["log", "sa"]).unwrap(), ["Sam"]);
    let home = two.sam.path();
    let of_sam = complete(&["--home", home.to_str().unwrap(), "send", "D"]).unwrap();
    assert_eq!(of_sam, ["Dana"]);
    // The control: a person is not offered where none is named, nor where no daemon is.
    assert!(!complete(&["status", ""]).unwrap().contains(&"Sam".to_owned()));
    two.dana.down();
    assert_eq!(complete(&["send", "sa"]).unwrap(), Vec::<String>::new());
}

#[test]
fn scripts_and_pages_are_made_without_a_home() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = home.oob(&["completions", shell]);
        assert!(script.code == 0 && script.stdout.len() > 1_000, "{shell}: {}", script.stderr);
        let json = home.json(&["completions", shell]);
        assert_eq!(json["script"].as_str().unwrap().trim_end(), script.stdout.trim_end());
    }
    home.oob(&["--json", "completions", "tcsh"]).error("usage", 2);
    let page = home.oob(&["man"]).stdout;
    assert!(page.contains(".TH oob 1") && !page.contains("__complete"), "{page}");
    // The folder is made, and those above it.
    let folder = home.dir.path().join("share/man/man1");
    home.json(&["man", "--out", folder.to_str().unwrap()]);
    for page in ["oob.1", "oob-send.1", "oob-address-add.1"] {
        assert!(fs::read_to_string(folder.join(page)).unwrap().contains(".TH "), "{page}");
    }
    home.oob(&["--json", "man", "--out", "/dev/null/man1"]).error("file", 1);
    assert!(!home.path().exists());
}
