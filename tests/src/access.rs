//! Rules of access on Apache Kafka, for tests of what a host may not do.

use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as rdsys;
use rdkafka::producer::{BaseProducer, Producer};

use crate::records;
use crate::wait::DEADLINE;

/// The code of a broker that has no rules.
const SECURITY_DISABLED: i32 = 54;

/// What rules are about.
#[derive(Debug, Clone, Copy)]
pub enum Guarded<'n> {
    /// Nobody may write to it.
    Topic(&'n str),
    /// Nobody may write under it.
    TransactionalId(&'n str),
    /// Nobody may read in it.
    Group(&'n str),
}

impl Guarded<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Topic(name) | Self::TransactionalId(name) | Self::Group(name) => name,
        }
    }

    fn kind(&self) -> rdsys::rd_kafka_ResourceType_t {
        match self {
            Self::Topic(_) => rdsys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
            Self::TransactionalId(_) => rdsys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
            Self::Group(_) => rdsys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_GROUP,
        }
    }

    fn forbidden(&self) -> rdsys::rd_kafka_AclOperation_t {
        match self {
            Self::Topic(_) | Self::TransactionalId(_) => rdsys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE,
            Self::Group(_) => rdsys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ,
        }
    }
}

/// Forbids everybody to use something, all else stays allowed. Whether the broker knows rules.
///
/// # Panics
/// Where the broker refuses otherwise.
pub fn forbid(servers: &str, what: Guarded<'_>) -> bool {
    change(servers, what, Change::Add)
}

/// Takes back what [`forbid`] did.
///
/// # Panics
/// Where the broker refuses.
pub fn allow(servers: &str, what: Guarded<'_>) {
    assert!(change(servers, what, Change::Remove), "the broker knows rules");
}

/// What becomes of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
}

fn change(servers: &str, what: Guarded<'_>, change: Change) -> bool {
    let client: BaseProducer = records::client(servers).create().expect("a client");
    let rules = [(rdsys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL, true), (what.forbidden(), false)];
    rules.into_iter().all(|(operation, allow)| ask(&client, what, operation, allow, change))
}

/// Adds or removes a rule for everybody on one of these. Whether the broker knows rules.
fn ask(
    client: &BaseProducer,
    what: Guarded<'_>,
    operation: rdsys::rd_kafka_AclOperation_t,
    allow: bool,
    change: Change,
) -> bool {
    let client = client.client();
    let name = CString::new(what.name()).expect("a name");
    let mut text = [0_u8; 256];
    let permission = match allow {
        true => rdsys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
        false => rdsys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
    };
    // A rule, and what finds one, are made of the same, and are the same to the client.
    let new = match change {
        Change::Add => rdsys::rd_kafka_AclBinding_new,
        Change::Remove => rdsys::rd_kafka_AclBindingFilter_new,
    };
    // SAFETY: the client is live; the strings end in NUL and are copied; what is made here is destroyed here, the answer last.
    let code = unsafe {
        let rule = new(
            what.kind(),
            name.as_ptr(),
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
        match change {
            Change::Add => {
                rdsys::rd_kafka_CreateAcls(client.native_ptr(), rules.as_mut_ptr(), 1, std::ptr::null(), answers);
            }
            Change::Remove => {
                rdsys::rd_kafka_DeleteAcls(client.native_ptr(), rules.as_mut_ptr(), 1, std::ptr::null(), answers);
            }
        }
        let wait = i32::try_from(DEADLINE.max(Duration::from_secs(1)).as_millis()).expect("a time");
        let event = rdsys::rd_kafka_queue_poll(answers, wait);
        assert!(!event.is_null(), "the broker answers");
        let mut code = rdsys::rd_kafka_event_error(event) as i32;
        if code == 0 {
            code = code_of(event, change);
        }
        rdsys::rd_kafka_event_destroy(event);
        rdsys::rd_kafka_queue_destroy(answers);
        rdsys::rd_kafka_AclBinding_destroy(rule);
        code
    };
    assert!(code == 0 || code == SECURITY_DISABLED, "the rule was refused: {code}");
    code == 0
}

/// What the broker says of the one rule.
///
/// # Safety
/// The event is live, and answers such a change.
unsafe fn code_of(event: *mut rdsys::rd_kafka_event_t, change: Change) -> i32 {
    let mut count = 0;
    // SAFETY: what is looked at belongs to the event.
    unsafe {
        let error = match change {
            Change::Add => {
                let result = rdsys::rd_kafka_event_CreateAcls_result(event);
                let results = rdsys::rd_kafka_CreateAcls_result_acls(result, &mut count);
                assert_eq!(count, 1, "one rule was added");
                rdsys::rd_kafka_acl_result_error(*results)
            }
            Change::Remove => {
                let result = rdsys::rd_kafka_event_DeleteAcls_result(event);
                let results = rdsys::rd_kafka_DeleteAcls_result_responses(result, &mut count);
                assert_eq!(count, 1, "one rule was removed");
                rdsys::rd_kafka_DeleteAcls_result_response_error(*results)
            }
        };
        if error.is_null() { 0 } else { rdsys::rd_kafka_error_code(error) as i32 }
    }
}
