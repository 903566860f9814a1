//! How the node under test comes to dial the suite.

use std::process::Stdio;
use std::time::Duration;

use capmux::Enode;
use capmux_conformance::Dial;
use tokio::io::{AsyncReadExt, copy, sink};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::output;

/// The variable of the environment that holds the enode.
const VARIABLE: &str = "CAPMUX_ENODE";

/// How much of what a command says on stderr is kept.
const SAID: u64 = 4096;

/// How long it is waited for the last words of a command that has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long a command has to end once it is told to.
#[cfg(unix)]
const GRACE: Duration = Duration::from_secs(2);

/// By a command that is run for each enode, or by the user, who reads them on stderr.
pub(super) fn dial(command: Option<&str>) -> Dial {
    let Some(command) = command.map(str::to_owned) else { return Dial::announce(announce) };
    Dial::tell(move |enode| tell(command.clone(), enode))
}

fn announce(enodes: &[Enode]) {
    if enodes.is_empty() {
        return;
    }
    output::note(format_args!("make the node dial these {} enodes, within two minutes:", enodes.len()));
    for enode in enodes {
        output::note(enode);
    }
}

/// Runs the command until it ends, or until this is dropped.
async fn tell(command: String, enode: Enode) -> Result<(), String> {
    let mut running = Running(Some(shell(&command, &enode).spawn().map_err(|error| format!("no shell: {error}"))?));
    let stderr = running.child().stderr.take().expect("it is a pipe");
    let (mut begin, mut said) = (stderr.take(SAID), Vec::new());
    let status = tokio::select! {
        status = running.child().wait() => status,
        () = drain(&mut begin, &mut said) => running.child().wait().await,
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            // Others may hold the pipe open.
            let _ = timeout(LAST_WORDS, begin.read_to_end(&mut said)).await;
            Err(format!("the command of --dial-with ended with {status}{}", first_line(&said)))
        }
        Err(error) => Err(format!("the command of --dial-with cannot be waited for: {error}")),
    }
}

/// Keeps the first that is said, and lets the rest pass, so that nobody waits to say more.
async fn drain(begin: &mut tokio::io::Take<tokio::process::ChildStderr>, said: &mut Vec<u8>) {
    let _ = begin.read_to_end(said).await;
    let _ = copy(begin.get_mut(), &mut sink()).await;
}

fn first_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(|line| format!(": {}", line.chars().take(200).collect::<String>().escape_debug())).unwrap_or_default()
}

fn shell(command: &str, enode: &Enode) -> Command {
    let enode = enode.to_string();
    let command = command.replace("{}", &enode);
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.args([if cfg!(windows) { "/C" } else { "-c" }, &command]).env(VARIABLE, enode).kill_on_drop(!cfg!(unix));
    // What the shell starts ends with it.
    #[cfg(unix)]
    shell.process_group(0);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    shell
}

/// A command that, with all it has started, is told to end when this is dropped before it has.
struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is taken when this is dropped")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(child) = self.0.take() {
            end(child);
        }
    }
}

/// Asks a group of processes to end, and ends those that have not after a while, unless this program ends before.
#[cfg(unix)]
fn end(mut child: Child) {
    use rustix::process::{Pid, Signal, kill_process_group};

    // None is left of one that has been waited for.
    let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return };
    let _ = kill_process_group(group, Signal::TERM);
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        // It is waited for afterwards, so that no other group has its number by then.
        tokio::time::sleep(GRACE).await;
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    });
}
