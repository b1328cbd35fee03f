//! Chrome's permissions for pages that read from this machine or from the network it is in (Local Network Access, since
//! version 142). Pure: what is needed and how it is said; `ui/local_network` asks.

use gptoss_protocol::{Failure, FailureKind};
use gptoss_source::{AddressSpace, address_space};

/// A permission that a page needs to reach a host in a more private network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalNetwork {
    /// Permission to reach this machine.
    Loopback,
    /// Permission to reach the network that this machine is in.
    Local,
}

/// The browser's state of a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The user has allowed it.
    Granted,
    /// The user, or a policy, has refused it.
    Denied,
    /// The user was not asked yet.
    Prompt,
}

impl LocalNetwork {
    /// The permission for the host of `url`, wherever the page comes from; `None` for hosts that anybody may reach.
    pub fn for_host(url: &str) -> Option<Self> {
        match address_space(url) {
            AddressSpace::Loopback => Some(Self::Loopback),
            AddressSpace::Local => Some(Self::Local),
            AddressSpace::Public => None,
        }
    }

    /// The permission that the page at `page` needs for `url`, as far as their addresses say.
    pub fn for_page(page: &str, url: &str) -> Option<Self> {
        (address_space(page) > address_space(url)).then(|| Self::for_host(url)).flatten()
    }

    /// Names of the permission, the present one first; Chrome 142 to 144 had one name for both.
    pub fn names(self) -> [&'static str; 2] {
        match self {
            Self::Loopback => ["loopback-network", "local-network-access"],
            Self::Local => ["local-network", "local-network-access"],
        }
    }

    /// Value of `targetAddressSpace` in a request.
    pub fn target_address_space(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Local => "local",
        }
    }

    /// Explains a failure to reach the host by the browser's state of the permission, unless it is granted.
    /// `page_needs_it`: the page's address says that it needs the permission, so that this is the cause; otherwise it
    /// may be.
    pub fn explain(self, failure: &Failure, permission: Permission, page_needs_it: bool) -> Option<Failure> {
        let (what, label) = match self {
            Self::Loopback => ("this machine", "Apps on device"),
            Self::Local => ("the network of this machine", "Local network"),
        };
        let [name, _] = self.names();
        let said = match permission {
            Permission::Granted => return None,
            Permission::Denied => "denies this page",
            Permission::Prompt => "has not given this page so far",
        };
        let before = match page_needs_it {
            true => "The browser".to_owned(),
            false => format!("{} If it is running, the browser may be what stands in between: it", failure.advice),
        };
        let advice = format!(
            "{before} {said} the permission \"{label}\" ({name}), which a page from elsewhere needs to read from {what}. Allow it in \
             the site's settings, behind the icon to the left of the page's address, and load again."
        );
        // A node has its model where it runs.
        let of_files = " Picking the file from disk needs no permission, and neither does a page that comes from the same gguf-serve as \
                        the file.";
        let of_files = if failure.kind == FailureKind::Unreachable { of_files } else { "" };
        Some(Failure { advice: format!("{advice}{of_files}"), ..failure.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_needed_on_the_way_to_a_more_private_host() {
        use LocalNetwork::{Local, Loopback};
        let (public, local, loopback) =
            ("https://a.example/gptoss", "http://192.168.0.2/gptoss", "http://127.0.0.1:8090/");
        for (page, url, needed) in [
            (public, loopback, Some(Loopback)),
            (public, local, Some(Local)),
            (local, loopback, Some(Loopback)),
            (local, local, None),
            (loopback, loopback, None),
            (loopback, local, None),
            (public, "https://huggingface.co/m.gguf", None),
        ] {
            assert_eq!(LocalNetwork::for_page(page, url), needed, "{page} {url}");
        }
        assert_eq!(LocalNetwork::for_host("http://localhost:1/m.gguf"), Some(Loopback));
    }

    #[test]
    fn a_failure_names_the_permission_and_where_it_is_changed() {
        let failure = Failure {
            kind: FailureKind::Unreachable,
            message: "no response".into(),
            advice: "check the host".into(),
            parameter: None,
        };
        let explain = |network: LocalNetwork, permission| network.explain(&failure, permission, true);
        assert_eq!(explain(LocalNetwork::Loopback, Permission::Granted), None);
        let denied = explain(LocalNetwork::Loopback, Permission::Denied).expect("that is why");
        assert_eq!(denied.message, "no response");
        for words in ["denies", "\"Apps on device\" (loopback-network)", "site's settings", "this machine"] {
            assert!(denied.advice.contains(words), "{}", denied.advice);
        }
        let prompt = explain(LocalNetwork::Local, Permission::Prompt).expect("that is why");
        assert!(prompt.advice.contains("\"Local network\" (local-network)"), "{}", prompt.advice);
        assert!(!prompt.advice.contains("check the host"), "{}", prompt.advice);
        let perhaps = LocalNetwork::Loopback.explain(&failure, Permission::Prompt, false).expect("that may be why");
        assert!(perhaps.advice.starts_with("check the host If it is running"), "{}", perhaps.advice);
        assert!(perhaps.advice.contains("from disk"), "{}", perhaps.advice);
        let node = Failure { kind: FailureKind::Unavailable, ..failure };
        let node = LocalNetwork::Loopback.explain(&node, Permission::Denied, true).expect("that is why");
        assert!(node.advice.ends_with("and load again."), "{}", node.advice);
    }
}
