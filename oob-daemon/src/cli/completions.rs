//! `completions`, `man` and the hidden `__complete`: what shells and manuals need to know of the command line. Names of people
//! come from the running daemon at the moment the key is pressed.

use super::{args, connect, printer::Printer};
use crate::{failure::Failure, plain::plain_line, schema::Members, settings::Home};
use clap_complete::Shell;
use serde::Serialize;
use std::{io, path::Path, time::Duration};
use tokio::time::timeout;

/// Longest a shell is kept waiting for names; a daemon that is up answers within milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// Most names offered: a list longer than a screen or two helps nobody.
const OFFERED: usize = 200;

/// Behind which words a person is named.
const BASH: &str = r#"
_oob_people() {
    _oob "$@"
    case "${COMP_WORDS[COMP_CWORD-1]}" in
        send|log) ;;
        *) return 0 ;;
    esac
    local word home name before=
    for word in "${COMP_WORDS[@]}"; do
        [ "$before" = --home ] && home=$word
        before=$word
    done
    # What was typed may stand in quotes, which are no part of a name.
    word=${COMP_WORDS[COMP_CWORD]#[\"\']}
    COMPREPLY=()
    while IFS= read -r name; do
        COMPREPLY+=("$(printf '%q' "$name")")
    done < <("${COMP_WORDS[0]}" ${home:+--home "$home"} __complete people -- "$word" 2>/dev/null)
    return 0
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _oob_people -o nosort -o bashdefault -o default oob
else
    complete -F _oob_people -o bashdefault -o default oob
fi
"#;

const ZSH: &str = r#"
_oob_people() {
    local -a people
    people=("${(@f)$(oob __complete people 2>/dev/null)}")
    compadd -M 'm:{[:lower:][:upper:]}={[:upper:][:lower:]}' -a people
}
"#;

const FISH: &str = r#"
complete -c oob -n "__fish_seen_subcommand_from send log" -f -a "(oob __complete people 2>/dev/null)"
"#;

/// How a generated zsh script describes the argument that names a person, and what is put there instead.
const ZSH_TARGET: (&str, &str) = (r"person\:NAME:_default'", r"person\:NAME:_oob_people'");

/// The script for one shell.
#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

/// Prints the script that a shell reads to complete commands, options and names.
pub(super) fn completions(shell: Shell, printer: &Printer) {
    let script = script(shell);
    printer.verbatim(&Script { shell: shell.to_string(), script }, |script| script.script.as_str());
}

fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut args::visible(), "oob", &mut bytes);
    let mut script = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => script.push_str(BASH),
        Shell::Zsh => {
            script = script.replace(ZSH_TARGET.0, ZSH_TARGET.1);
            // Before the end, where the script runs what it defined.
            match script.find("\n_oob() {") {
                Some(at) => script.insert_str(at, ZSH),
                None => script.push_str(ZSH),
            }
        }
        Shell::Fish => script.push_str(FISH),
        _ => {}
    }
    script
}

/// Prints the names that begin like this, one a line. A daemon that is not there is no error: nothing is offered then.
pub(super) async fn people(begin: &str, home: &Home, printer: &Printer) -> Result<(), Failure> {
    let asked = async {
        let members: Members = connect(home).await?.get("/api/v1/members").await?;
        Ok::<_, Failure>(members)
    };
    let Ok(Ok(members)) = timeout(PATIENCE, asked).await else { return Ok(()) };
    let begin = begin.to_lowercase();
    let others = members.members.into_iter().filter(|member| !member.me);
    let names = others.map(|member| plain_line(&member.name));
    for name in names.filter(|name| name.to_lowercase().starts_with(&begin)).take(OFFERED) {
        if !printer.data(&name, Clone::clone) {
            break;
        }
    }
    Ok(())
}

/// The manual page of the program.
#[derive(Serialize)]
struct Page {
    page: String,
}

/// Where manual pages were written.
#[derive(Serialize)]
struct Written {
    folder: String,
    pages: usize,
}

/// Prints the manual page of the program, or writes it and that of each command into a folder.
pub(super) fn man(out: Option<&Path>, printer: &Printer) -> Result<(), Failure> {
    let command = args::visible();
    let Some(folder) = out else {
        let mut bytes = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut bytes)
            .map_err(|e| Failure::internal("the manual cannot be written").cause(e))?;
        let page = Page { page: String::from_utf8_lossy(&bytes).into_owned() };
        printer.verbatim(&page, |page| page.page.as_str());
        return Ok(());
    };
    let failed = |e: io::Error| {
        Failure::file(format!("manual pages cannot be written to {}", folder.display()), &e)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    let pages = std::fs::read_dir(folder).map_err(failed)?.count();
    let written = Written { folder: folder.display().to_string(), pages };
    printer.data(&written, |written| format!("{} files are in {}", written.pages, written.folder));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_knows_the_commands_and_hides_what_is_hidden() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = script(shell);
            for command in ["invite", "doctor", "completions", "kdf-memory"] {
                assert!(script.contains(command), "{command} for {shell}");
            }
            let asked = script.lines().filter(|line| line.contains("__complete"));
            let people = "__complete people";
            assert!(asked.into_iter().all(|line| line.contains(people)), "{shell}");
            assert!(!script.contains("-child"), "{shell}");
        }
    }

    #[test]
    fn zsh_asks_for_names_where_a_person_is_named() {
        let script = script(Shell::Zsh);
        // `send`, `log` and `org propose admins`.
        assert_eq!(
            script.matches(ZSH_TARGET.1).count(),
            3,
            "the description of TARGET has changed"
        );
        assert!(!script.contains(ZSH_TARGET.0));
        assert!(script.find("_oob_people() {").unwrap() < script.find("\n_oob() {").unwrap());
    }
}
