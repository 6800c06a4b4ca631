//! Child processes for work that may crash.
//!
//! A compiled model is machine code: a fault in it can end or hang the process. `mcc verify` therefore runs its cases
//! in child processes, which read a case's folder per line on stdin and answer with a line of JSON on stdout. If a
//! child dies or does not answer, its case fails, and the next case gets a new child.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mcc::{Error, Result};
use serde_json::Value;

/// A child process, started when first needed.
pub struct Worker {
    program: PathBuf,
    arguments: Vec<String>,
    limit: Duration,
    running: Option<Running>,
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    /// Its output on stderr, once it has ended.
    said: JoinHandle<String>,
}

/// The outcome of a question.
pub enum Answer {
    /// The child's answer.
    Json(Value),
    /// The child died: its status, and its last line on stderr, if any.
    Crashed(String),
    /// No answer within the time limit.
    TimedOut,
}

impl Worker {
    /// A worker that runs a program with these arguments.
    pub fn new(program: PathBuf, arguments: Vec<String>, limit: Duration) -> Worker {
        Worker { program, arguments, limit, running: None }
    }

    /// Asks about one folder.
    pub fn ask(&mut self, folder: &Path) -> Result<Answer> {
        let text = folder.to_str().filter(|t| !t.contains('\n'));
        let text = text.ok_or_else(|| Error::usage(format!("{}: the path is not plain text", folder.display())))?;
        let mut running = match self.running.take() {
            Some(running) => running,
            None => start(&self.program, &self.arguments)?,
        };
        // If the child has died, that shows in its answer.
        let _ = writeln!(running.stdin, "{text}");
        match running.answers.recv_timeout(self.limit) {
            Ok(line) => {
                self.running = Some(running);
                let json = serde_json::from_str(&line);
                json.map(Answer::Json).map_err(|e| Error::internal(format!("a worker answered {line:?}: {e}")))
            }
            Err(RecvTimeoutError::Timeout) => {
                stop(running.child);
                Ok(Answer::TimedOut)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = running.child.wait().map_err(|e| Error::io("worker", &e))?;
                let said = running.said.join().unwrap_or_default();
                let last = said.lines().rfind(|line| !line.trim().is_empty());
                Ok(Answer::Crashed(last.map_or(status.to_string(), |last| format!("{status}; {last}"))))
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            stop(running.child);
        }
    }
}

/// Answers questions until stdin ends.
pub fn serve(mut answer: impl FnMut(&Path) -> Value) -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line.map_err(|e| Error::io("stdin", &e))?;
        let mut stdout = std::io::stdout();
        let reply = format!("{}\n", answer(Path::new(&line)));
        stdout.write_all(reply.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| Error::io("stdout", &e))?;
    }
    Ok(())
}

fn start(program: &Path, arguments: &[String]) -> Result<Running> {
    let failed = |e: std::io::Error| Error::io("starting a worker", &e);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (Some(stdin), Some(stdout), Some(mut stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Error::internal("a worker has no pipes"));
    };
    let (sender, answers) = channel();
    // Reading in a separate thread makes the time limit possible.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        // If reading fails, keep what was read.
        let _ = stderr.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    Ok(Running { child, stdin, answers, said })
}

fn stop(mut child: Child) {
    // It may have ended by itself meanwhile.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn ask_twice(script: &str) -> [String; 2] {
        let arguments = vec!["-c".to_string(), script.to_string()];
        let mut worker = Worker::new("sh".into(), arguments, Duration::from_millis(500));
        [(); 2].map(|()| match worker.ask(Path::new("a case")).unwrap() {
            Answer::Json(value) => value.to_string(),
            Answer::Crashed(how) => how,
            Answer::TimedOut => "timed out".to_string(),
        })
    }

    #[test]
    fn a_worker_answers_dies_or_hangs() {
        assert_eq!(
            ask_twice(r#"n=0; while read line; do n=$((n+1)); echo "[\"$line\",$n]"; done"#),
            [r#"["a case",1]"#, r#"["a case",2]"#]
        );
        assert_eq!(ask_twice("read line; kill -SEGV $$"), ["signal: 11 (SIGSEGV)"; 2]);
        assert_eq!(ask_twice("exit 3"), ["exit status: 3"; 2]);
        assert_eq!(ask_twice("read line; echo a fault >&2; exit 3"), ["exit status: 3; a fault"; 2]);
        assert_eq!(ask_twice("read line; read more"), ["timed out"; 2]);
    }
}
