//! The query example's prompt, with a person at a terminal: answers, history, Ctrl-C for a query, Ctrl-D to leave.

use std::path::Path;

use rexpect::error::Error;
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

use crate::query_answers::{query, with_visits};

/// How long one look at the terminal takes before it is looked at again; no test fails by it.
const LOOK_MS: u64 = 500;

fn sit_down(dir: &Path) -> PtySession {
    let mut command = query(dir);
    command.env("XDG_STATE_HOME", dir.join("state")).env("TERM", "xterm");
    let mut terminal = spawn_command(command, Some(LOOK_MS)).unwrap();
    sees(&mut terminal, "Ctrl-D leaves.");
    sees(&mut terminal, "sql> ");
    terminal
}

/// Whether this text comes to be on the terminal within one look.
fn glimpses(terminal: &mut PtySession, text: &str) -> bool {
    match terminal.exp_string(text) {
        Ok(_) => true,
        Err(Error::Timeout { .. }) => false,
        Err(error) => panic!("`{text}` was not seen: {error}"),
    }
}

fn sees(terminal: &mut PtySession, text: &str) {
    while !glimpses(terminal, text) {}
}

fn types(terminal: &mut PtySession, keys: &str) {
    terminal.send(keys).unwrap();
    terminal.flush().unwrap();
}

fn leaves(mut terminal: PtySession) {
    types(&mut terminal, "\x04");
    let status = terminal.process_mut().wait().unwrap();
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

#[test]
fn a_person_asks_stops_asks_again_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    with_visits(dir.path());
    let mut terminal = sit_down(dir.path());
    types(&mut terminal, "SHOW\r");
    sees(&mut terminal, "  -> ");
    types(&mut terminal, "TABLES;\r");
    sees(&mut terminal, "visits\r\n");
    sees(&mut terminal, "sql> ");

    // An error is told, and the prompt goes on.
    types(&mut terminal, "select nothing;\r");
    sees(&mut terminal, "error: the query on ");
    sees(&mut terminal, "sql> ");

    // A query over 3^30 rows is stopped.
    let joins: String = (1..30).map(|at| format!(" cross join visits t{at}")).collect();
    types(&mut terminal, &format!("select sum(t0.id) from visits t0{joins};\r"));
    while !glimpses(&mut terminal, "the query was stopped after ") {
        types(&mut terminal, "\x03");
    }
    sees(&mut terminal, "sql> ");
    types(&mut terminal, "select 'still ' || 'here' as x;\r");
    sees(&mut terminal, "still here");
    sees(&mut terminal, "sql> ");
    leaves(terminal);

    // What was asked yesterday is one key away.
    let mut terminal = sit_down(dir.path());
    types(&mut terminal, "\x1b[A\r");
    sees(&mut terminal, "still here");
    sees(&mut terminal, "sql> ");
    types(&mut terminal, "quit\r");
    let status = terminal.process_mut().wait().unwrap();
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}
