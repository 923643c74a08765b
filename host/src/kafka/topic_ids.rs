//! Topics' ids: what tells a topic from another one that was made under its name later.

use std::collections::HashMap;
use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rdsys;

use super::consumer::answered;
use super::error::{Code, Error};
use super::native::{Client, Queue, c_string, lossy};
use super::topics::Options;

/// A topic's id, as the broker writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicId(pub String);

impl std::fmt::Display for TopicId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names as the client takes them.
struct Names(*mut rdsys::rd_kafka_TopicCollection_t);

impl Names {
    fn new(topics: &[&str]) -> Result<Self, Error> {
        let names = topics.iter().map(|topic| c_string(topic)).collect::<Result<Vec<_>, _>>()?;
        let mut raw: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the names end in NUL, and are copied.
        Ok(Self(unsafe { rdsys::rd_kafka_TopicCollection_of_topic_names(raw.as_mut_ptr(), raw.len()) }))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: the collection is live, and this value's.
        unsafe { rdsys::rd_kafka_TopicCollection_destroy(self.0) }
    }
}

/// The ids of topics, of those that are there and that have one: brokers before 3.1 give none.
///
/// # Errors
/// Where the broker doesn't answer in time.
pub(super) fn topic_ids(
    client: &Arc<Client>,
    topics: &[&str],
    timeout: Duration,
) -> Result<HashMap<String, TopicId>, Error> {
    const ACTION: &str = "ask for topics' ids";
    if topics.is_empty() {
        return Ok(HashMap::new());
    }
    let names = Names::new(topics)?;
    let options = Options::new(client, rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
    let answers = Queue::new(client);
    // SAFETY: all are live; the names are copied.
    unsafe { rdsys::rd_kafka_DescribeTopics(client.raw(), names.0, options.raw(), answers.raw()) };
    // The client ends the request itself when the time is over.
    let Some(answer) = answers.poll(timeout + Duration::from_secs(1)) else {
        return answered(ACTION, Code::TIMED_OUT, timeout).map(|()| HashMap::new());
    };
    match answered(ACTION, answer.code(), timeout) {
        Err(Error::Refused { code, .. }) => {
            tracing::debug!(%code, "The broker doesn't tell topics' ids.");
            return Ok(HashMap::new());
        }
        answered => answered?,
    }
    let mut ids = HashMap::new();
    // SAFETY: the answer is live, and holds as many topics as it says; they live as long as it does, and so do their names and
    // ids. The text of an id lives as long as the id.
    unsafe {
        let mut count = 0;
        let result = rdsys::rd_kafka_event_DescribeTopics_result(answer.raw());
        let described = rdsys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for index in 0..count {
            let topic = *described.add(index);
            let id = rdsys::rd_kafka_TopicDescription_topic_id(topic);
            let is_none = |id| {
                rdsys::rd_kafka_Uuid_most_significant_bits(id) == 0
                    && rdsys::rd_kafka_Uuid_least_significant_bits(id) == 0
            };
            let failed = rdsys::rd_kafka_error_code(rdsys::rd_kafka_TopicDescription_error(topic));
            if Code::from(failed).error().is_none() && !id.is_null() && !is_none(id) {
                let name = lossy(rdsys::rd_kafka_TopicDescription_name(topic)).into_owned();
                ids.insert(name, TopicId(lossy(rdsys::rd_kafka_Uuid_base64str(id)).into_owned()));
            }
        }
    }
    Ok(ids)
}
