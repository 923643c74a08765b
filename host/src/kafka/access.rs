//! What this client may do with topics, as far as the broker says it.

use std::collections::HashMap;
use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as rdsys;

use super::consumer::answered;
use super::error::{Code, Error};
use super::native::{Queue, c_string, lossy, take_error};
use super::topics::{Options, Topics};

/// Names that are asked about.
struct Collection(*mut rdsys::rd_kafka_TopicCollection_t);

impl Collection {
    fn of(topics: &[&str]) -> Result<Self, Error> {
        let names = topics.iter().map(|topic| c_string(topic)).collect::<Result<Vec<CString>, _>>()?;
        let mut raw: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the names end in NUL, there are as many as is said, and they are copied.
        Ok(Self(unsafe { rdsys::rd_kafka_TopicCollection_of_topic_names(raw.as_mut_ptr(), raw.len()) }))
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        // SAFETY: the collection is live, and this value's.
        unsafe { rdsys::rd_kafka_TopicCollection_destroy(self.0) }
    }
}

impl Topics {
    /// Whether each topic may be written to by this client's user. None where the broker doesn't say.
    ///
    /// # Errors
    /// The broker's silence, or where it refuses the request as a whole, or doesn't know it.
    pub fn may_write(&self, topics: &[&str], timeout: Duration) -> Result<Vec<Option<bool>>, Error> {
        const ACTION: &str = "describe topics";
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let collection = Collection::of(topics)?;
        let options =
            Options::new(self.client(), rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
        let answers = Queue::new(self.client());
        // SAFETY: all are live; the names are copied, and the error is ours.
        let asked = unsafe {
            let error = rdsys::rd_kafka_AdminOptions_set_include_authorized_operations(options.raw(), 1);
            rdsys::rd_kafka_DescribeTopics(self.client().raw(), collection.0, options.raw(), answers.raw());
            take_error(error)
        };
        if let Err((code, _)) = asked {
            return Err(Error::Refused { action: ACTION, code });
        }
        let Some(answer) = answers.poll(timeout + Duration::from_secs(1)) else {
            return answered(ACTION, Code::TIMED_OUT, timeout).map(|()| Vec::new());
        };
        answered(ACTION, answer.code(), timeout)?;
        let mut found = HashMap::new();
        // SAFETY: the answer is live, and holds as many topics as it says, each as many operations; they live as long as it.
        unsafe {
            let mut count = 0;
            let result = rdsys::rd_kafka_event_DescribeTopics_result(answer.raw());
            let described = rdsys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            for index in 0..count {
                let topic = *described.add(index);
                let mut allowed = 0;
                let operations = rdsys::rd_kafka_TopicDescription_authorized_operations(topic, &mut allowed);
                if operations.is_null() {
                    continue;
                }
                let write = rdsys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE as i32;
                // Read as numbers: a newer broker may know operations that the enumeration lacks.
                let may = (0..allowed).any(|operation| operations.add(operation).cast::<i32>().read() == write);
                found.insert(lossy(rdsys::rd_kafka_TopicDescription_name(topic)).into_owned(), may);
            }
        }
        Ok(topics.iter().map(|topic| found.get(*topic).copied()).collect())
    }
}
