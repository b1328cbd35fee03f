//! A secret that requests have to bring, for machines that others use too.
//!
//! A program sends it as `Authorization: Bearer …`. A person opens the address that holds it once, as `?token=…`; the
//! browser then keeps it as a cookie that page scripts cannot read and other sites cannot send. A page of another
//! origin puts it into the address of the file, because a header of its own would cost a preflight for every request.

use hyper::Uri;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};

/// The query parameter.
const PARAMETER: &str = "token";

/// A secret, kept as its hash: comparing hashes takes as long for a wrong guess that begins well as for any other.
#[derive(Debug, Clone)]
pub struct Secret {
    hash: [u8; 32],
}

impl Secret {
    /// Keeps the hash of `secret`.
    pub fn new(secret: &str) -> Self {
        Self { hash: hash(secret.as_bytes()) }
    }

    /// Whether `given` is the secret.
    pub fn is(&self, given: &[u8]) -> bool {
        hash(given) == self.hash
    }
}

/// A secret that a browser may bring as well as a program.
#[derive(Debug, Clone)]
pub struct Token {
    secret: Secret,
    cookie_name: String,
}

/// Where a request has the right token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// The token came in a header, which a program sets or a browser sends by itself.
    InHeader,
    /// The token came in the address.
    InQuery,
}

impl Token {
    /// `program` and `port`: those of the server. Cookies are shared by all ports of a host, so both are in their name.
    pub fn new(secret: &str, program: &str, port: u16) -> Self {
        Self { secret: Secret::new(secret), cookie_name: format!("{program}-{port}") }
    }

    /// Where the request has this token; `None` if nowhere.
    pub fn find(&self, uri: &Uri, headers: &HeaderMap) -> Option<Presented> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies = cookies.flat_map(|line| line.split(';')).filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.cookie_name).then(|| percent_decode_str(value).collect())
        });
        if bearers(headers).map(<[u8]>::to_vec).chain(cookies).any(|secret: Vec<u8>| self.secret.is(&secret)) {
            return Some(Presented::InHeader);
        }
        self.in_query(uri).map(|_| Presented::InQuery)
    }

    /// The token as it stands in the address.
    fn in_query<'u>(&self, uri: &'u Uri) -> Option<&'u str> {
        let mut values = parameters(uri.query().unwrap_or_default()).filter_map(value_of_token);
        values.find(|value| self.secret.is(&percent_decode_str(value).collect::<Vec<u8>>()))
    }

    /// `Set-Cookie` for a browser that brought the token in the address.
    pub fn cookie(&self, uri: &Uri, secure: bool) -> Option<String> {
        // Encoded anew: an address may hold characters that end a cookie, or that no header can carry.
        let secret: Vec<u8> = percent_decode_str(self.in_query(uri)?).collect();
        let value = percent_encode(&secret, NON_ALPHANUMERIC);
        let secure = if secure { "; Secure" } else { "" };
        Some(format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}", self.cookie_name))
    }
}

/// A secret that nobody has chosen: 128 bits in hexadecimal.
///
/// # Panics
/// If the operating system has no randomness to give.
pub fn random_secret() -> String {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the operating system gives random bytes");
    format!("{:032x}", u128::from_ne_bytes(bits))
}

fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// What stands in `Authorization: Bearer …`, as often as it is there.
pub fn bearers(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| !pair.is_empty())
}

fn value_of_token(pair: &str) -> Option<&str> {
    pair.split_once('=').filter(|(name, _)| *name == PARAMETER).map(|(_, value)| value)
}

/// The query without the token; `None` if nothing is left.
pub fn query_without_token(query: &str) -> Option<String> {
    let rest: Vec<&str> = parameters(query).filter(|pair| value_of_token(pair).is_none()).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

/// Path and query as a log may have them.
pub fn loggable(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let hide = |pair| if value_of_token(pair).is_some() { "token=…" } else { pair };
    format!("{path}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn find(target: &str, headers: &[(&'static str, &str)]) -> Option<Presented> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Token::new("s3cret/+", "gguf-serve", 8090).find(&target.parse().unwrap(), &map)
    }

    #[test]
    fn three_ways_to_bring_it() {
        for value in ["Bearer s3cret/+", "bearer  s3cret/+ "] {
            assert_eq!(find("/m.gguf", &[("authorization", value)]), Some(Presented::InHeader), "{value}");
        }
        for value in ["gguf-serve-8090=s3cret/+", "a=b; gguf-serve-8090=s3cret%2F%2B; c=d"] {
            assert_eq!(find("/m.gguf", &[("cookie", value)]), Some(Presented::InHeader), "{value}");
        }
        for target in ["/m.gguf?token=s3cret/+", "/gptoss?prompt=hi&token=s3cret%2F%2b", "/?token=old&token=s3cret/+"] {
            assert_eq!(find(target, &[]), Some(Presented::InQuery), "{target}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for target in ["/m.gguf", "/?token=", "/?token", "/?token=s3cret", "/?token=S3CRET/%2B", "/?Token=s3cret/+"] {
            assert_eq!(find(target, &[]), None, "{target}");
        }
        for header in [
            ("authorization", "Basic s3cret/+"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer s3cret"),
            ("authorization", "s3cret/+"),
            ("cookie", "gguf-serve-8091=s3cret/+"),
            ("cookie", "token=s3cret/+"),
            ("x-token", "s3cret/+"),
        ] {
            assert_eq!(find("/m.gguf", &[header]), None, "{header:?}");
        }
    }

    #[test]
    fn it_does_not_stay_in_addresses_and_logs() {
        assert_eq!(query_without_token("token=a"), None);
        assert_eq!(query_without_token("prompt=hi&token=a&top_k=3").as_deref(), Some("prompt=hi&top_k=3"));
        assert_eq!(loggable("/m.gguf?a=1&token=s3cret&b"), "/m.gguf?a=1&token=…&b");
        assert_eq!(loggable("/m.gguf"), "/m.gguf");
        let cookie = Token::new("a b", "gguf-serve", 1).cookie(&"/gptoss?token=x&token=a%20b".parse().unwrap(), true);
        assert_eq!(cookie.as_deref(), Some("gguf-serve-1=a%20b; Path=/; HttpOnly; SameSite=Lax; Secure"));
        // The URI is spelled as a person may type it.
        let cookie = Token::new("a;b", "gguf-serve", 1).cookie(&"/gptoss?token=a;b".parse().unwrap(), false);
        assert_eq!(cookie.as_deref(), Some("gguf-serve-1=a%3Bb; Path=/; HttpOnly; SameSite=Lax"));
    }
}
