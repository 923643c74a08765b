//! The client of a running host's admin surface: finds it, asks, and says what is wrong where no answer comes. Never decides
//! what is asked for.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::check::style;
use super::connect::duration;
use super::topic::Output;
use super::{ConfigArgs, Failure, refused};
use crate::config::model::Secret;
use crate::config::{self, Severity, Whereabouts};
use crate::control::address;
use crate::control::admin::Fault;
use crate::control::order::Done;

/// How often a host that is about to start is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A request that was begun gets so long, however little is left: whoever has little time hears what the host says, too.
const ANSWER_MIN: Duration = Duration::from_secs(1);
/// An answer larger than that is none of a host's.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Which host, and for how long to try.
#[derive(Debug, Clone, Args)]
pub(super) struct HostArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,

    /// The host's admin address, instead of the one that the config leads to
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,

    /// How long to try to reach the host before giving up with exit code 4
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(super) timeout: Duration,
}

/// For orders.
#[derive(Debug, Clone, Args)]
pub(super) struct OrderArgs {
    #[command(flatten)]
    pub(super) host: HostArgs,

    /// How long to wait until the host has carried it out, compiling plugins included
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(super) wait: Duration,

    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl HostArgs {
    /// A client of the host that the arguments mean.
    ///
    /// # Errors
    /// When the config can't be read at all.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let (addresses, token) = match (config::whereabouts(&self.config.config), &self.admin) {
            (Ok(found), admin) => {
                complain(&found);
                let token = found.admin.token.clone();
                (admin.clone().map_or_else(|| Addresses::of(&found), Addresses::Given), token)
            }
            (Err(_), Some(admin)) => (Addresses::Given(admin.clone()), None),
            (Err(problems), None) => return Err(refused(&problems)),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Client { runtime, addresses, token, deadline: Instant::now() + self.timeout, timeout: self.timeout })
    }
}

/// A host that runs is most needed to hear an order when its config on disk is broken: that is said, and no more.
fn complain(found: &Whereabouts) {
    if found.problems.count(Severity::Error) > 0 {
        let problems = found.problems.render(style(&std::io::stderr()));
        let note = "midplane: the config is refused as it stands; the host is looked for with what can be read of it";
        // Nobody is left to be told that standard error is closed.
        let _ = writeln!(std::io::stderr(), "{problems}{note}");
    }
}

/// Where a host may be found.
#[derive(Debug, Clone)]
enum Addresses {
    /// There, says the command line.
    Given(String),
    /// Where the running host says, else where the config says.
    Found {
        /// Holds the address of a running host.
        file: PathBuf,
        /// None for any free port.
        listen: Option<String>,
    },
}

impl Addresses {
    fn of(found: &Whereabouts) -> Self {
        let mut listen = found.admin.listen;
        match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Self::Found {
            file: address::admin_file(&found.host.data_directory),
            listen: (listen.port() != 0).then(|| listen.to_string()),
        }
    }

    /// Those to try, best first. After a crash the file leads to nobody, so the config's is tried as well.
    fn candidates(&self) -> Vec<String> {
        match self {
            Self::Given(address) => vec![address.clone()],
            Self::Found { file, listen } => {
                let published = address::read(file);
                let listen = listen.clone().filter(|listen| published.as_ref() != Some(listen));
                published.into_iter().chain(listen).collect()
            }
        }
    }
}

/// A client of one host.
#[derive(Debug)]
pub(super) struct Client {
    runtime: tokio::runtime::Runtime,
    addresses: Addresses,
    token: Option<Secret>,
    deadline: Instant,
    timeout: Duration,
}

/// An answer, whatever it says.
#[derive(Debug)]
struct Answer {
    address: String,
    status: StatusCode,
    body: Bytes,
}

/// Why there is no answer.
enum Silence {
    /// Nobody is there, or nobody any more.
    Gone(String),
    /// Somebody is there, and takes longer than was agreed.
    Late,
}

impl Client {
    /// What a path of the surface holds, and the address that it was found at.
    ///
    /// # Errors
    /// When the host can't be reached in time, or what it answers isn't that.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(String, T), Failure> {
        self.look(path, |answer| answer.status == StatusCode::OK)
    }

    /// What a probe holds: it answers whichever way.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(super) fn probe<T: DeserializeOwned>(&self, path: &str) -> Result<(String, T), Failure> {
        self.look(path, |answer| [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status))
    }

    fn look<T: DeserializeOwned>(&self, path: &str, fine: impl Fn(&Answer) -> bool) -> Result<(String, T), Failure> {
        loop {
            let answer = self.ask(&Method::GET, path, Vec::new(), self.deadline);
            let answer = answer.map_err(|silence| self.unreachable(silence))?;
            if fine(&answer) {
                let value = answer.read()?;
                return Ok((answer.address, value));
            }
            // A host that starts has a surface before it has anything to show.
            let starting = answer.status == StatusCode::SERVICE_UNAVAILABLE && Instant::now() < self.deadline;
            if !starting {
                return Err(answer.failure());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Gives an order, and waits until it is carried out.
    ///
    /// # Errors
    /// When the host can't be reached in time, or refuses.
    pub(super) fn order(&self, path: &str, particulars: &impl Serialize, wait: Duration) -> Result<Done, Failure> {
        let body = serde_json::to_vec(particulars).map_err(Failure::failed)?;
        let deadline = Instant::now() + wait;
        match self.ask(&Method::POST, path, body, deadline) {
            Ok(answer) if answer.status == StatusCode::OK => answer.read(),
            Ok(answer) => Err(answer.failure()),
            Err(Silence::Late) => Err(Failure::failed(format!(
                "the host has not carried it out within {wait:?}, and goes on with it; `midplane status` shows how it ends"
            ))),
            Err(silence) => Err(self.unreachable(silence)),
        }
    }

    fn unreachable(&self, silence: Silence) -> Failure {
        let reason = match silence {
            Silence::Gone(reason) => reason,
            Silence::Late => format!("no answer within {:?}", self.timeout),
        };
        Failure::unreachable(reason)
    }

    /// One request to the first address that takes a connection; tried until the client's deadline. `answer_by` bounds the
    /// answer.
    fn ask(&self, method: &Method, path: &str, body: Vec<u8>, answer_by: Instant) -> Result<Answer, Silence> {
        self.runtime.block_on(async {
            let (address, stream) = self.connect().await?;
            let gone = |error: &dyn std::fmt::Display| {
                Silence::Gone(format!("the host at `{address}` went away before it answered: {error}"))
            };
            let exchange = async {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| gone(&error))?;
                let connection = tokio::spawn(connection);
                let mut request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header(header::HOST, &address)
                    .header(header::CONTENT_TYPE, "application/json");
                if let Some(Secret(token)) = &self.token {
                    request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
                }
                let request = request.body(Full::new(Bytes::from(body))).map_err(|error| gone(&error))?;
                let response = sender.send_request(request).await.map_err(|error| gone(&error))?;
                let status = response.status();
                let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
                let body = body.map_err(|error| gone(&error))?.to_bytes();
                connection.abort();
                Ok(Answer { address: address.clone(), status, body })
            };
            let by = answer_by.max(Instant::now() + ANSWER_MIN);
            timeout_at(by.into(), exchange).await.unwrap_or(Err(Silence::Late))
        })
    }

    /// A connection, and the address that took it.
    async fn connect(&self) -> Result<(String, TcpStream), Silence> {
        loop {
            let candidates = self.addresses.candidates();
            let mut reason = None;
            for address in candidates {
                let by = self.deadline.max(Instant::now() + ANSWER_MIN);
                match timeout_at(by.into(), TcpStream::connect(&address)).await {
                    Ok(Ok(stream)) => return Ok((address, stream)),
                    Ok(Err(error)) => reason = Some((address, error.to_string())),
                    Err(_) => reason = Some((address, "no connection".to_owned())),
                }
            }
            if Instant::now() >= self.deadline {
                return Err(Silence::Gone(self.nobody(reason)));
            }
            tokio::time::sleep(LOOK_INTERVAL.min(self.deadline.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// What is said where nobody listens.
    fn nobody(&self, reason: Option<(String, String)>) -> String {
        match (&self.addresses, reason) {
            (_, Some((address, reason))) => format!(
                "no answer from the host at `{address}` within {:?}: {reason}; is it running, and is the address right?",
                self.timeout
            ),
            (Addresses::Found { file, .. }, None) => format!(
                "no host runs: the config gives its admin surface any free port, and there is no `{}` with its address; start \
                 one with `midplane run`",
                file.display()
            ),
            (Addresses::Given(address), None) => format!("no answer from the host at `{address}`"),
        }
    }
}

impl Answer {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::failed(format!(
                "the answer of the host at `{}` is not what was expected: {error}; is it of another version?",
                self.address
            ))
        })
    }

    /// The failure that an answer other than 200 is.
    fn failure(&self) -> Failure {
        let Ok(Fault { error }) = serde_json::from_slice(&self.body) else {
            return Failure::failed(format!(
                "the host at `{}` answers {}; is it a host of this version?",
                self.address, self.status
            ));
        };
        match self.status {
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::NOT_FOUND | StatusCode::CONFLICT => Failure::refused(error),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Failure::unreachable(error),
            _ => Failure::failed(format!("the host at `{}` says: {error}", self.address)),
        }
    }
}

/// A name as a part of a path.
pub(super) fn encoded(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
