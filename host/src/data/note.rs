//! What a commit says beside the offset: versioned, so that later hosts can tell what they read. Written with each commit, read
//! when a partition is assigned.

use serde::{Deserialize, Serialize};

use crate::kafka::TopicId;

/// The form that this version writes.
const FORM: u32 = 1;

/// What is remembered with a committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    v: u32,
    /// The first digits of the hash of the generation that committed it.
    pub generation: String,
    /// The id of the topic that the offset is one of: another topic may have its name by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic_id: Option<String>,
}

impl Note {
    /// A note of a generation about a topic whose id is known, or not.
    pub fn new(generation: &str, topic_id: Option<&TopicId>) -> Self {
        Self { v: FORM, generation: generation.to_owned(), topic_id: topic_id.map(|id| id.0.clone()) }
    }

    /// What was committed; none where it isn't a note, or one of a form that is not known.
    pub fn read(metadata: &[u8]) -> Option<Self> {
        serde_json::from_slice(metadata).ok().filter(|note: &Self| note.v == FORM)
    }

    /// As it is committed.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The id of the topic.
    pub fn topic_id(&self) -> Option<TopicId> {
        self.topic_id.clone().map(TopicId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let id = TopicId("b8tRS7h4TJ2Vt43Dp85v2A".to_owned());
        let note = Note::new("1f2e3d4c", Some(&id));
        assert_eq!(note.text(), r#"{"v":1,"generation":"1f2e3d4c","topic_id":"b8tRS7h4TJ2Vt43Dp85v2A"}"#);
        assert_eq!(Note::read(note.text().as_bytes()), Some(note));
        let before = Note::read(br#"{"v":1,"generation":"1f2e3d4c"}"#);
        assert_eq!(before, Some(Note::new("1f2e3d4c", None)));
    }

    #[test]
    fn what_others_commit_is_no_note() {
        for metadata in ["", "{}", "x", r#"{"v":2,"generation":"1f2e3d4c"}"#] {
            assert_eq!(Note::read(metadata.as_bytes()), None, "{metadata}");
        }
    }
}
