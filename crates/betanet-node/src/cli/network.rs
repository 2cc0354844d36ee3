//! Commands that make or explain what others need to take part in a network.

use std::fmt::Write;

use betanet_mix::view::Role;
use betanet_node::authority::issue_token;
use betanet_node::net::NetFile;

use super::arguments::{NetArguments, TokenArguments};
use super::output::{Failure, OneLine, tell};
use super::services::absolute;

pub(super) async fn token(arguments: TokenArguments) -> Result<(), Failure> {
    let mut roles = arguments.roles;
    if roles.is_empty() {
        roles = vec![Role::Entry, Role::Middle, Role::Exit];
    }
    roles.sort_unstable();
    roles.dedup();
    let dir = absolute(&arguments.dir)?;
    let token = issue_token(&dir, arguments.operator, roles, arguments.uses, arguments.expires)?;
    tell(true, &token, &"", "the token").await
}

pub(super) async fn show(arguments: NetArguments) -> Result<(), Failure> {
    let net = NetFile::wait_for(&absolute(&arguments.net)?).await?;
    tell(arguments.json, &net, &explain(&net)?, "the network file").await
}

/// What the file says, for people.
fn explain(net: &NetFile) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "network     {}", OneLine(net.network.as_bytes()))?;
    let operators = if net.one_operator {
        "one runs all nodes, so nobody is anonymous to it"
    } else {
        "several; none stands on a path twice"
    };
    writeln!(text, "operators   {operators}")?;
    writeln!(text, "authority   {}", net.authority.address)?;
    writeln!(text, "            its key {}", net.authority.id)?;
    match net.edges.len() {
        0 => writeln!(text, "edges       none yet: a client needs one, a node does not; get the file again later")?,
        count => writeln!(text, "edges       {count}, of which a client takes some to begin with")?,
    }
    for edge in &net.edges {
        writeln!(text, "            {}  key {}", edge.address, edge.id)?;
    }
    write!(
        text,
        "This file is all that a client or a node needs. Whoever gives it to you chooses your network: compare the \
         authority's key over another way."
    )?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use betanet_node::net::Endpoint;

    use super::*;

    #[test]
    fn a_network_file_is_explained_without_effect_on_the_terminal() {
        let endpoint = |id: u8, address: &str| Endpoint { id: [id; 32].into(), address: address.parse().unwrap() };
        let mut net = NetFile {
            network: "exa\u{1b}mple".to_owned(),
            authority: endpoint(7, "dir.example:10000"),
            edges: Vec::new(),
            one_operator: true,
            http: [].into(),
        };
        let without = explain(&net).unwrap();
        assert!(!without.contains('\u{1b}') && without.contains("edges       none yet"), "{without}");
        assert!(without.contains("nobody is anonymous") && without.contains(&"07".repeat(32)), "{without}");
        net.edges.push(endpoint(8, "[2001:db8::1]:10001"));
        net.one_operator = false;
        let with = explain(&net).unwrap();
        assert!(
            with.contains("[2001:db8::1]:10001  key 0808") && with.contains("none stands on a path twice"),
            "{with}"
        );
    }
}
