//! What topics there are, and making new ones: over a client of its own that belongs to no group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rdsys;

use super::consumer::answered;
use super::describe::{self, TopicId, TopicSettings};
use super::error::{Code, Error};
use super::native::{Client, Kind, Queue, c_string, lossy, timeout_ms};
use super::settings::AdminSettings;

/// A topic, as the broker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its partitions are 0 to this, exclusive.
    pub partitions: i32,
    /// Why it can't be used, where it can't.
    pub error: Option<Code>,
}

/// A topic that is to be made.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// `None`: as many as the broker makes by default.
    pub partitions: Option<i32>,
    /// `None`: as the broker does by default.
    pub replication: Option<i32>,
    /// Its settings, such as `cleanup.policy`.
    pub config: Vec<(String, String)>,
}

/// A client that looks at topics. May be shared among threads.
pub struct Topics {
    client: Arc<Client>,
}

impl Topics {
    /// Needs no broker.
    ///
    /// # Errors
    /// Where a setting is refused.
    pub fn new(settings: &AdminSettings) -> Result<Self, Error> {
        let events = rdsys::RD_KAFKA_EVENT_ERROR;
        Ok(Self { client: Client::new(Kind::Consumer, settings.pairs(), events)? })
    }

    /// All topics that this client may see, by name. Never makes one.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    pub fn list(&self, timeout: Duration) -> Result<Vec<TopicInfo>, Error> {
        self.serve();
        let mut metadata = std::ptr::null();
        // SAFETY: the client is live, and the metadata ours to destroy where there is no error.
        let code = unsafe {
            rdsys::rd_kafka_metadata(self.client.raw(), 1, std::ptr::null_mut(), &mut metadata, timeout_ms(timeout))
        };
        answered("list the topics", code.into(), timeout)?;
        // SAFETY: the metadata is live until it is destroyed here, and holds as many topics as it says.
        let mut topics: Vec<TopicInfo> = unsafe {
            let count = usize::try_from((*metadata).topic_cnt).unwrap_or(0);
            let topics = (0..count).map(|index| {
                let topic = (*metadata).topics.add(index);
                TopicInfo {
                    name: lossy((*topic).topic).into_owned(),
                    partitions: (*topic).partition_cnt,
                    error: Code::read(std::ptr::addr_of!((*topic).err)).error(),
                }
            });
            let topics = topics.collect();
            rdsys::rd_kafka_metadata_destroy(metadata);
            topics
        };
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The ids of topics, of those that are there and that have one.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time.
    pub fn ids(&self, topics: &[&str], timeout: Duration) -> Result<HashMap<String, TopicId>, Error> {
        self.serve();
        describe::topic_ids(&self.client, topics, timeout)
    }

    /// Makes topics, and waits until they are there. One that is there already is an error of [`Code::TOPIC_ALREADY_EXISTS`].
    ///
    /// # Errors
    /// The first one that couldn't be made, or the broker's silence.
    pub fn create(&self, topics: &[NewTopic], timeout: Duration) -> Result<(), Error> {
        const ACTION: &str = "create topics";
        self.serve();
        if topics.is_empty() {
            return Ok(());
        }
        let mut requests = Vec::with_capacity(topics.len());
        for topic in topics {
            requests.push(Request::new(topic)?);
        }
        let mut raw: Vec<_> = requests.iter().map(|request| request.0).collect();
        let options = Options::new(&self.client, rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout);
        let answers = Queue::new(&self.client);
        // SAFETY: all are live; the requests are copied.
        unsafe {
            rdsys::rd_kafka_CreateTopics(self.client.raw(), raw.as_mut_ptr(), raw.len(), options.0, answers.raw());
        }
        // The client ends the request itself when the time is over: its word says more than our impatience.
        let Some(answer) = answers.poll(timeout + Duration::from_secs(1)) else {
            return answered(ACTION, Code::TIMED_OUT, timeout);
        };
        answered(ACTION, answer.code(), timeout)?;
        // SAFETY: the answer is live, and holds as many results as it says; they live as long as it does.
        unsafe {
            let mut count = 0;
            let result = rdsys::rd_kafka_event_CreateTopics_result(answer.raw());
            let results = rdsys::rd_kafka_CreateTopics_result_topics(result, &mut count);
            for index in 0..count {
                let topic = *results.add(index);
                if let Some(code) = Code::from(rdsys::rd_kafka_topic_result_error(topic)).error() {
                    let text = lossy(rdsys::rd_kafka_topic_result_error_string(topic));
                    return Err(Error::Topic {
                        action: ACTION,
                        topic: lossy(rdsys::rd_kafka_topic_result_name(topic)).into_owned(),
                        code,
                        message: if text.is_empty() { code.to_string() } else { text.into_owned() },
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether each topic may be written to by this client's user. None where the broker doesn't say.
    ///
    /// # Errors
    /// The broker's silence, or where it refuses the request as a whole, or doesn't know it.
    pub fn may_write(&self, topics: &[&str], timeout: Duration) -> Result<Vec<Option<bool>>, Error> {
        self.serve();
        describe::may_write(&self.client, topics, timeout)
    }

    /// What each topic takes, and keeps.
    ///
    /// # Errors
    /// The broker's silence, or where it refuses the request as a whole.
    pub fn settings(&self, topics: &[&str], timeout: Duration) -> Result<Vec<TopicSettings>, Error> {
        self.serve();
        describe::settings(&self.client, topics, timeout)
    }

    /// Takes what the client has to say out of its queue, which nobody polls otherwise.
    fn serve(&self) {
        let queue = Queue::main(&self.client);
        while let Some(event) = queue.poll(Duration::ZERO) {
            let code = event.code();
            tracing::debug!(%code, reason = event.message(), "The metadata client reports.");
        }
    }
}

struct Request(*mut rdsys::rd_kafka_NewTopic_t);

impl Request {
    fn new(topic: &NewTopic) -> Result<Self, Error> {
        let name = c_string(&topic.name)?;
        let mut text = [0_u8; 512];
        // SAFETY: the name ends in NUL, and the text is as long as is said.
        let raw = unsafe {
            rdsys::rd_kafka_NewTopic_new(
                name.as_ptr(),
                topic.partitions.unwrap_or(-1),
                topic.replication.unwrap_or(-1),
                text.as_mut_ptr().cast(),
                text.len(),
            )
        };
        if raw.is_null() {
            let message = std::ffi::CStr::from_bytes_until_nul(&text).unwrap_or_default();
            return Err(Error::Topic {
                action: "create topics",
                topic: topic.name.clone(),
                code: Code::INVALID_ARGUMENT,
                message: message.to_string_lossy().into_owned(),
            });
        }
        let request = Self(raw);
        for (name, value) in &topic.config {
            let (name, value) = (c_string(name)?, c_string(value)?);
            // SAFETY: the request is live, and the strings end in NUL and are copied.
            unsafe { rdsys::rd_kafka_NewTopic_set_config(request.0, name.as_ptr(), value.as_ptr()) };
        }
        Ok(request)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: the request is live, and this value's.
        unsafe { rdsys::rd_kafka_NewTopic_destroy(self.0) }
    }
}

pub(super) struct Options(*mut rdsys::rd_kafka_AdminOptions_t);

impl Options {
    pub(super) fn raw(&self) -> *mut rdsys::rd_kafka_AdminOptions_t {
        self.0
    }

    pub(super) fn new(client: &Client, operation: rdsys::rd_kafka_admin_op_t, timeout: Duration) -> Self {
        let milliseconds = timeout_ms(timeout).max(1);
        let mut text = [0_u8; 512];
        let (room, length) = (text.as_mut_ptr().cast(), text.len());
        // SAFETY: the client is live, and so are the options; the text is as long as is said. Both times are in the range
        // that is allowed, so that neither call fails; the second one means nothing to operations that only ask.
        unsafe {
            let options = rdsys::rd_kafka_AdminOptions_new(client.raw(), operation);
            rdsys::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds.min(3_600_000), room, length);
            rdsys::rd_kafka_AdminOptions_set_operation_timeout(options, milliseconds.min(3_600_000), room, length);
            Self(options)
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: the options are live, and this value's.
        unsafe { rdsys::rd_kafka_AdminOptions_destroy(self.0) }
    }
}
