//! What brokers say of topics, for any client: their ids, whether it may write to them, and what they take. Changes nothing.

use std::collections::HashMap;
use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rdsys;

use super::consumer::answered;
use super::error::{Code, Error};
use super::native::{Client, Event, Queue, c_string, lossy, take_error};
use super::topics::Options;

/// The topic's setting that bounds a batch, and so a record, as written to it.
const BATCH_BYTES_MAX: &str = "max.message.bytes";
/// The topic's setting that says what becomes of old records.
const CLEANUP_POLICY: &str = "cleanup.policy";
const DESCRIBE_TOPICS: rdsys::rd_kafka_admin_op_t = rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
const DESCRIBE_CONFIGS: rdsys::rd_kafka_admin_op_t = rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;

/// A topic's id, as the broker writes it: what tells it from another one that was made under its name later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicId(pub String);

impl std::fmt::Display for TopicId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
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
    let options = Options::new(client, DESCRIBE_TOPICS, timeout);
    // SAFETY: the topic is live while it is looked at, and so is its id. The text of an id lives as long as the id.
    let described = describe_topics(ACTION, client, topics, &options, timeout, |topic| unsafe {
        let id = rdsys::rd_kafka_TopicDescription_topic_id(topic);
        let is_none = |id| {
            rdsys::rd_kafka_Uuid_most_significant_bits(id) == 0 && rdsys::rd_kafka_Uuid_least_significant_bits(id) == 0
        };
        let failed = rdsys::rd_kafka_error_code(rdsys::rd_kafka_TopicDescription_error(topic));
        (Code::from(failed).error().is_none() && !id.is_null() && !is_none(id))
            .then(|| TopicId(lossy(rdsys::rd_kafka_Uuid_base64str(id)).into_owned()))
    });
    match described {
        Err(Error::Refused { code, .. }) => {
            tracing::debug!(%code, "The broker doesn't tell topics' ids.");
            Ok(HashMap::new())
        }
        described => described,
    }
}

/// Whether each topic may be written to by this client's user. None where the broker doesn't say.
///
/// # Errors
/// The broker's silence, or where it refuses the request as a whole, or doesn't know it.
pub(super) fn may_write(client: &Arc<Client>, topics: &[&str], timeout: Duration) -> Result<Vec<Option<bool>>, Error> {
    const ACTION: &str = "describe topics";
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let options = Options::new(client, DESCRIBE_TOPICS, timeout);
    // SAFETY: the options are live, and the error is ours.
    let set = unsafe { take_error(rdsys::rd_kafka_AdminOptions_set_include_authorized_operations(options.raw(), 1)) };
    if let Err((code, _)) = set {
        return Err(Error::Refused { action: ACTION, code });
    }
    let write = rdsys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE as i32;
    // SAFETY: the topic is live while it is looked at, and holds as many operations as it says.
    let found = describe_topics(ACTION, client, topics, &options, timeout, |topic| unsafe {
        let mut allowed = 0;
        let operations = rdsys::rd_kafka_TopicDescription_authorized_operations(topic, &mut allowed);
        // Read as numbers: a newer broker may know operations that the enumeration lacks.
        let operations = (!operations.is_null()).then_some(operations)?;
        Some((0..allowed).any(|operation| operations.add(operation).cast::<i32>().read() == write))
    })?;
    Ok(topics.iter().map(|topic| found.get(*topic).copied()).collect())
}

/// What a topic takes, and keeps. None where the broker doesn't say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// The largest batch of records, in bytes.
    pub batch_bytes_max: Option<usize>,
    /// What becomes of old records.
    pub cleanup: Option<Cleanup>,
}

/// What becomes of a topic's old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Of the records of a key the newest stays; none without a key is taken.
    pub compacts: bool,
    /// They are deleted by age or size, unless no bound is set.
    pub deletes: bool,
    /// The topic can have no other policy.
    pub is_fixed: bool,
}

impl Cleanup {
    /// From the setting's value: a list.
    fn new(policy: &str, is_fixed: bool) -> Self {
        let has = |word| policy.split(',').any(|policy| policy.trim() == word);
        Self { compacts: has("compact"), deletes: has("delete"), is_fixed }
    }
}

/// What each topic takes: the largest batch of records, in bytes. None where the broker doesn't say it of this one.
///
/// # Errors
/// As [`settings`].
pub(super) fn batch_bytes_max(
    client: &Arc<Client>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<Option<usize>>, Error> {
    Ok(settings(client, topics, timeout)?.into_iter().map(|topic| topic.batch_bytes_max).collect())
}

/// What the broker says of each topic's settings.
///
/// # Errors
/// The broker's silence, or where it refuses the request as a whole.
pub(super) fn settings(client: &Arc<Client>, topics: &[&str], timeout: Duration) -> Result<Vec<TopicSettings>, Error> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let resources = topics.iter().map(|topic| Resource::new(topic)).collect::<Result<Vec<_>, _>>()?;
    let mut raw: Vec<_> = resources.iter().map(|resource| resource.0).collect();
    let options = Options::new(client, DESCRIBE_CONFIGS, timeout);
    let answer = answer("describe topics", client, timeout, |answers| {
        // SAFETY: all are live; the resources are copied.
        unsafe {
            rdsys::rd_kafka_DescribeConfigs(client.raw(), raw.as_mut_ptr(), raw.len(), options.raw(), answers.raw());
        }
    })?;
    let mut found: HashMap<String, TopicSettings> = HashMap::new();
    // SAFETY: the answer is live, and holds as many resources as it says, each as many entries; they live as long as it
    // does, and so do their names and values.
    unsafe {
        let (mut count, mut entries) = (0, 0);
        let result = rdsys::rd_kafka_event_DescribeConfigs_result(answer.raw());
        let described = rdsys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
        for index in 0..count {
            let resource = *described.add(index);
            let configs = rdsys::rd_kafka_ConfigResource_configs(resource, &mut entries);
            let topic = found.entry(lossy(rdsys::rd_kafka_ConfigResource_name(resource)).into_owned()).or_default();
            for entry in (0..entries).map(|entry| *configs.add(entry)) {
                let value = rdsys::rd_kafka_ConfigEntry_value(entry);
                let Some(value) = (!value.is_null()).then(|| lossy(value)) else { continue };
                match &*lossy(rdsys::rd_kafka_ConfigEntry_name(entry)) {
                    BATCH_BYTES_MAX => topic.batch_bytes_max = value.parse().ok(),
                    CLEANUP_POLICY => {
                        let is_fixed = rdsys::rd_kafka_ConfigEntry_is_read_only(entry) == 1;
                        topic.cleanup = Some(Cleanup::new(&value, is_fixed));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(topics.iter().map(|topic| found.remove(*topic).unwrap_or_default()).collect())
}

/// What is to be said of each topic that the broker describes, by name; a topic of which there is nothing to say is left out.
fn describe_topics<T>(
    action: &'static str,
    client: &Arc<Client>,
    topics: &[&str],
    options: &Options,
    timeout: Duration,
    mut say: impl FnMut(*const rdsys::rd_kafka_TopicDescription_t) -> Option<T>,
) -> Result<HashMap<String, T>, Error> {
    let names = Names::new(topics)?;
    let answer = answer(action, client, timeout, |answers| {
        // SAFETY: all are live; the names are copied.
        unsafe { rdsys::rd_kafka_DescribeTopics(client.raw(), names.0, options.raw(), answers.raw()) }
    })?;
    let mut said = HashMap::new();
    // SAFETY: the answer is live, and holds as many topics as it says; they live as long as it does, and so do their names.
    unsafe {
        let mut count = 0;
        let result = rdsys::rd_kafka_event_DescribeTopics_result(answer.raw());
        let described = rdsys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for index in 0..count {
            let topic = *described.add(index);
            if let Some(value) = say(topic) {
                said.insert(lossy(rdsys::rd_kafka_TopicDescription_name(topic)).into_owned(), value);
            }
        }
    }
    Ok(said)
}

/// Asks, and waits for the answer.
fn answer(
    action: &'static str,
    client: &Arc<Client>,
    timeout: Duration,
    ask: impl FnOnce(&Queue),
) -> Result<Event, Error> {
    let answers = Queue::new(client);
    ask(&answers);
    // The client ends the request itself when the time is over: its word says more than our impatience.
    let Some(answer) = answers.poll(timeout + Duration::from_secs(1)) else {
        return Err(Error::Unreachable {
            action,
            timeout_ms: timeout.as_millis().try_into().unwrap_or(u64::MAX),
            code: Code::TIMED_OUT,
        });
    };
    answered(action, answer.code(), timeout)?;
    Ok(answer)
}

/// Names as the client takes them.
struct Names(*mut rdsys::rd_kafka_TopicCollection_t);

impl Names {
    fn new(topics: &[&str]) -> Result<Self, Error> {
        let names = topics.iter().map(|topic| c_string(topic)).collect::<Result<Vec<_>, _>>()?;
        let mut raw: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the names end in NUL, there are as many as is said, and they are copied.
        Ok(Self(unsafe { rdsys::rd_kafka_TopicCollection_of_topic_names(raw.as_mut_ptr(), raw.len()) }))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: the collection is live, and this value's.
        unsafe { rdsys::rd_kafka_TopicCollection_destroy(self.0) }
    }
}

/// A topic whose settings are asked for.
struct Resource(*mut rdsys::rd_kafka_ConfigResource_t);

impl Resource {
    fn new(topic: &str) -> Result<Self, Error> {
        let (topic, settings) = (c_string(topic)?, [c_string(BATCH_BYTES_MAX)?, c_string(CLEANUP_POLICY)?]);
        // SAFETY: the strings end in NUL and are copied. These settings are asked for, rather than all of them; their values
        // mean nothing, but may not be missing.
        unsafe {
            let kind = rdsys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
            let resource = Self(rdsys::rd_kafka_ConfigResource_new(kind, topic.as_ptr()));
            for setting in &settings {
                rdsys::rd_kafka_ConfigResource_set_config(resource.0, setting.as_ptr(), c"".as_ptr());
            }
            Ok(resource)
        }
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        // SAFETY: the resource is live, and this value's.
        unsafe { rdsys::rd_kafka_ConfigResource_destroy(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_list() {
        let check = |policy, compacts, deletes| {
            assert_eq!(Cleanup::new(policy, false), Cleanup { compacts, deletes, is_fixed: false }, "{policy}");
        };
        check("delete", false, true);
        check("compact", true, false);
        check("compact,delete", true, true);
        check("delete, compact", true, true);
        check("", false, false);
    }
}
