//! Reading captures out of commits: what the store knows of a capture, its commit says as well.

use gix::{ObjectId, bstr::ByteSlice};

use super::{Error, GitDir, StateId};

/// The trailer of a capture's confidence.
const CONFIDENCE: &str = "Heddle-Confidence";

/// What the commit of a capture says.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureText {
    /// The commit.
    pub state: StateId,
    /// The state that it came after.
    pub parent: Option<StateId>,
    /// The tree.
    pub tree: ObjectId,
    /// The thread that was captured.
    pub thread: String,
    /// The agent that captured: `provider/model`.
    pub agent: Option<String>,
    /// How sure it was, from 0 to 1.
    pub confidence: Option<f64>,
    /// The id that survives rewriting.
    pub change_id: String,
    /// When, in seconds since the Unix epoch.
    pub captured_secs: i64,
}

/// What people say in a commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// The whole message; what is no UTF-8 in it is replaced.
    pub message: String,
    /// How sure its author was, from 0 to 1, where the commit says so.
    pub confidence: Option<f64>,
}

impl GitDir {
    /// What people say in the commit of a state.
    ///
    /// # Errors
    /// When it is not there, or damaged.
    pub fn said_of(&self, state: StateId) -> Result<Said, Error> {
        let git = self.local();
        let fail = |e| Error::unreadable(&git, &e);
        let commit = git.find_commit(state).map_err(fail)?;
        let message = commit
            .message_raw()
            .map_err(|e| Error::unreadable(&git, &e))?;
        let message = message.to_str_lossy().into_owned();
        let trailers = trailers(&message);
        let said = trailers.iter().find(|(key, _)| key == CONFIDENCE);
        Ok(Said {
            confidence: said.and_then(|(_, value)| value.parse().ok()),
            message,
        })
    }

    /// What a commit says of itself as a capture; `None` where it is a commit and no capture.
    ///
    /// # Errors
    /// When it is not there, damaged, or no commit.
    pub fn capture_text(&self, state: StateId) -> Result<Option<CaptureText>, Error> {
        let git = self.local();
        let fail = |e| Error::unreadable(&git, &e);
        let commit = git.find_commit(state).map_err(fail)?;
        let said = commit.decode().map_err(fail)?;
        let change_id = said.extra_headers().find("change-id");
        let trailers = trailers(&said.message.to_str_lossy());
        let trailer = |key: &str| {
            let found = trailers.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| value.clone())
        };
        let (Some(change_id), Some(thread)) = (change_id, trailer("Heddle-Thread")) else {
            return Ok(None);
        };
        Ok(Some(CaptureText {
            state,
            parent: said.parents().next().map(StateId::from),
            tree: said.tree(),
            thread,
            agent: trailer("Heddle-Agent"),
            confidence: trailer(CONFIDENCE).and_then(|value| value.parse().ok()),
            change_id: change_id.to_string(),
            captured_secs: said.time().map_err(fail)?.seconds,
        }))
    }

    /// What somebody wrote of a commit: its message without what heddle put below.
    ///
    /// # Errors
    /// When it is not there, damaged, or no commit.
    pub fn message(&self, state: StateId) -> Result<String, Error> {
        let git = self.local();
        let fail = |e| Error::unreadable(&git, &e);
        let commit = git.find_commit(state).map_err(fail)?;
        let message = commit.message_raw().map_err(fail)?.to_str_lossy();
        Ok(without_ours(&message))
    }

    /// When a commit was made, in seconds since the Unix epoch; `None` where it cannot be read.
    pub fn committed_secs(&self, state: StateId) -> Option<i64> {
        let git = self.local();
        let commit = git.find_commit(state).ok()?;
        commit.time().ok().map(|time| time.seconds)
    }
}

/// The last paragraph's lines of the form `Key: value`; what a person wrote above them is no
/// trailer of ours, whatever it looks like.
fn trailers(message: &str) -> Vec<(String, String)> {
    let lines = message.trim_end().lines().rev();
    let last = lines.take_while(|line| !line.is_empty());
    last.filter_map(|line| {
        let (key, value) = line.split_once(": ")?;
        Some((key.to_owned(), value.to_owned()))
    })
    .collect()
}

/// A message without the trailers of heddle, in its last paragraph.
fn without_ours(message: &str) -> String {
    let lines: Vec<&str> = message.trim_end().lines().collect();
    let last = lines.iter().rposition(|line| line.is_empty());
    let last = last.map_or(0, |empty| empty + 1);
    let is_ours = |at: usize, line: &str| at >= last && line.starts_with("Heddle-");
    let kept = lines.iter().enumerate();
    let kept = kept.filter(|(at, line)| !is_ours(*at, line));
    let kept: Vec<&str> = kept.map(|(_, line)| *line).collect();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_paragraph_has_trailers() {
        let found = |message| {
            let found = trailers(message).into_iter();
            found.map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert!(found("say\n\nHeddle-Thread: other\n\nand more\n").is_empty());
        assert_eq!(
            found("say\n\nHeddle-Thread: main\nHeddle-Agent: a/b\n"),
            ["Heddle-Agent", "Heddle-Thread"]
        );
    }

    #[test]
    fn what_heddle_put_below_a_message_is_told_from_it() {
        for (message, wanted) in [
            ("say\n\nHeddle-Thread: main\nHeddle-Agent: a/b\n", "say"),
            ("\n\nHeddle-Thread: main\n", ""),
            (
                "say\n\nHeddle-Thread: is what I name\n\nand more\n",
                "say\n\nHeddle-Thread: is what I name\n\nand more",
            ),
            (
                "say\n\nSigned-off-by: x\nHeddle-Thread: main\n",
                "say\n\nSigned-off-by: x",
            ),
        ] {
            assert_eq!(without_ours(message).trim_end(), wanted, "{message:?}");
        }
    }
}
