//! Who may ask the admin surface: whoever has the token, where there is one; and no page of a browser that came from
//! elsewhere. Decides nothing about what is asked.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::Fault;
use crate::config::model::Secret;

/// The token that is asked for, if one is; clones share it.
#[derive(Debug, Clone)]
pub struct Access(Arc<RwLock<Option<Token>>>);

/// The token's hash: comparing hashes takes the same time wherever a guess begins to differ.
#[derive(Debug, Clone)]
struct Token([u8; 32]);

impl Access {
    /// Asks for this token.
    pub fn new(token: Option<&Secret>) -> Self {
        Self(Arc::new(RwLock::new(token.map(Token::new))))
    }

    /// Asks for another token from now on.
    pub fn set(&self, token: Option<&Secret>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token.map(Token::new);
    }

    fn opens(&self, header: Option<&[u8]>) -> bool {
        let token = self.0.read().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().is_none_or(|token| token.opens(header))
    }
}

impl Token {
    fn new(token: &Secret) -> Self {
        Self(Sha256::digest(token.0.as_bytes()).into())
    }

    fn opens(&self, header: Option<&[u8]>) -> bool {
        let given = header.and_then(|header| header.strip_prefix(b"Bearer "));
        given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given)) == self.0)
    }
}

/// Lets a request pass, or says why not.
pub(super) async fn authorize(State(access): State<Access>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    if !access.opens(header.map(header::HeaderValue::as_bytes)) {
        let fault = "expected the header `Authorization: Bearer TOKEN`, with the token of `token_file`";
        let fault = Json(Fault { error: fault.to_owned() });
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], fault).into_response();
    }
    if *request.method() == Method::POST && !is_of_this_surface(request.headers()) {
        let error = "the page that asks for this was not served by this host".to_owned();
        return (StatusCode::FORBIDDEN, Json(Fault { error })).into_response();
    }
    next.run(request).await
}

/// A browser names the page's origin in all that a page posts, and sends it to any address, loopback too: without this, a
/// page from anywhere could give orders to the host of whoever looks at it. The name must be an address, or a domain of
/// the attacker's that leads to loopback would do.
fn is_of_this_surface(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, origin)), Some(host)) => origin == host && is_address(host),
        _ => false,
    }
}

fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_from_elsewhere_gives_no_orders() {
        let check = |origin: Option<&'static str>, host: &'static str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, header::HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, header::HeaderValue::from_static(origin));
            }
            assert_eq!(is_of_this_surface(&headers), expected, "{origin:?} to {host}");
        };
        check(None, "127.0.0.1:8090", true);
        check(None, "midplane-1.internal:8090", true);
        check(Some("http://127.0.0.1:8090"), "127.0.0.1:8090", true);
        check(Some("http://localhost:8090"), "localhost:8090", true);
        check(Some("http://[::1]:8090"), "[::1]:8090", true);
        check(Some("https://elsewhere.example"), "127.0.0.1:8090", false);
        check(Some("http://127.0.0.1:3000"), "127.0.0.1:8090", false);
        check(Some("http://rebound.example:8090"), "rebound.example:8090", false);
        check(Some("null"), "127.0.0.1:8090", false);
    }

    #[test]
    fn another_token_holds_from_when_it_is_set() {
        let secret = |text: &str| Secret(text.to_owned());
        let access = Access::new(None);
        assert!(access.opens(None));
        access.set(Some(&secret("first")));
        assert!(!access.opens(None));
        assert!(access.opens(Some(b"Bearer first")));
        access.clone().set(Some(&secret("second")));
        assert!(!access.opens(Some(b"Bearer first")));
        assert!(access.opens(Some(b"Bearer second")));
    }
}
