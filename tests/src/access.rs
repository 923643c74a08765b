//! Rules of access on Apache Kafka, for tests of what a host may not do.

use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as rdsys;
use rdkafka::producer::{BaseProducer, Producer};

use crate::records;
use crate::wait::DEADLINE;

/// The code of a broker that has no rules.
const SECURITY_DISABLED: i32 = 54;

/// Forbids everybody to write to a topic, all else stays allowed. Whether the broker knows rules.
///
/// # Panics
/// Where the broker refuses otherwise.
pub fn forbid_writing(servers: &str, topic: &str) -> bool {
    let client: BaseProducer = records::client(servers).create().expect("a client");
    let rules = [
        (rdsys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL, true),
        (rdsys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE, false),
    ];
    rules.into_iter().all(|(operation, allow)| add(&client, topic, operation, allow))
}

/// Adds a rule for everybody on one topic.
fn add(client: &BaseProducer, topic: &str, operation: rdsys::rd_kafka_AclOperation_t, allow: bool) -> bool {
    let client = client.client();
    let topic = CString::new(topic).expect("a name");
    let mut text = [0_u8; 256];
    let permission = match allow {
        true => rdsys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
        false => rdsys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
    };
    // SAFETY: the client is live; the strings end in NUL and are copied; what is made here is destroyed here, the answer last.
    let code = unsafe {
        let rule = rdsys::rd_kafka_AclBinding_new(
            rdsys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
            topic.as_ptr(),
            rdsys::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
            c"User:*".as_ptr(),
            c"*".as_ptr(),
            operation,
            permission,
            text.as_mut_ptr().cast(),
            text.len(),
        );
        assert!(!rule.is_null(), "a rule");
        let answers = rdsys::rd_kafka_queue_new(client.native_ptr());
        let mut rules = [rule];
        rdsys::rd_kafka_CreateAcls(client.native_ptr(), rules.as_mut_ptr(), 1, std::ptr::null(), answers);
        let wait = i32::try_from(DEADLINE.max(Duration::from_secs(1)).as_millis()).expect("a time");
        let event = rdsys::rd_kafka_queue_poll(answers, wait);
        assert!(!event.is_null(), "the broker answers");
        let mut code = rdsys::rd_kafka_event_error(event) as i32;
        if code == 0 {
            let mut count = 0;
            let result = rdsys::rd_kafka_event_CreateAcls_result(event);
            let results = rdsys::rd_kafka_CreateAcls_result_acls(result, &mut count);
            for index in 0..count {
                let error = rdsys::rd_kafka_acl_result_error(*results.add(index));
                if !error.is_null() {
                    code = rdsys::rd_kafka_error_code(error) as i32;
                }
            }
        }
        rdsys::rd_kafka_event_destroy(event);
        rdsys::rd_kafka_queue_destroy(answers);
        rdsys::rd_kafka_AclBinding_destroy(rule);
        code
    };
    assert!(code == 0 || code == SECURITY_DISABLED, "the rule was refused: {code}");
    code == 0
}
