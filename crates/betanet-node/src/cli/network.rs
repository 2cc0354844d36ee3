//! Commands that make or explain what others need to take part in a network.

use std::fmt::Write;

use betanet_mix::view::Role;
use betanet_node::authority::{GivenToken, given_tokens, issue_token, revoke_token};
use betanet_node::clock::wall_ms;
use betanet_node::net::NetFile;

use super::arguments::{NetArguments, RevokeArguments, TokenArguments, TokensArguments};
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

pub(super) async fn tokens(arguments: TokensArguments) -> Result<(), Failure> {
    let given = given_tokens(&absolute(&arguments.dir)?)?;
    let text = list(&given, wall_ms())?;
    tell(arguments.json, &serde_json::json!({"tokens": given}), &text, "the tokens").await
}

pub(super) async fn revoke(arguments: RevokeArguments) -> Result<(), Failure> {
    let RevokeArguments { token, dir } = arguments;
    revoke_token(&absolute(&dir)?, token)?;
    let text = format!("{token} is revoked: an authority that runs lists nobody by it within seconds");
    tell(false, &token, &text, "that the token is revoked").await
}

/// The tokens that were given out, for people.
fn list(given: &[GivenToken], now_ms: u64) -> Result<String, std::fmt::Error> {
    let mut text = String::from("token                             nodes      state");
    for token in given {
        let GivenToken { id, operator, roles, uses, expires_ms, revoked, nodes } = token;
        let state = match expires_ms.saturating_sub(now_ms) / 3_600_000 {
            _ if *revoked => "revoked".to_owned(),
            _ if *expires_ms <= now_ms => "expired; who came stays".to_owned(),
            hours => format!("for {hours} h more"),
        };
        let roles = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
        let came = format!("{} of {uses}", nodes.len());
        let operator = OneLine(operator.as_bytes());
        write!(text, "\n{id}  {came:<10} {state}; operator {operator}: {roles}")?;
        for node in nodes {
            write!(text, "\n    node {node}")?;
        }
    }
    Ok(text)
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
    fn tokens_are_listed_with_what_becomes_of_them() {
        let token = |number: u8, expires_ms, revoked, nodes| GivenToken {
            id: betanet_mix::view::TokenId([number; 16]),
            operator: "an\u{1b}na".to_owned(),
            roles: vec![Role::Entry, Role::Exit],
            uses: 4,
            expires_ms,
            revoked,
            nodes,
        };
        let hour_ms = 3_600_000;
        let given = [
            token(1, hour_ms, false, vec![[7; 32].into()]),
            token(2, hour_ms + 1, false, vec![]),
            token(3, 9 * hour_ms, false, vec![]),
            token(4, 9 * hour_ms, true, vec![]),
        ];
        let text = list(&given, hour_ms).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let state = |line: usize, words: &str| assert!(lines.get(line).unwrap().contains(words), "{words}: {text}");
        state(1, "01010101  1 of 4     expired; who came stays; operator an");
        state(2, &format!("    node {}", "07".repeat(32)));
        state(3, "0 of 4     for 0 h more");
        state(4, "for 8 h more");
        state(5, "revoked");
        assert!(!text.contains('\u{1b}') && text.contains("entry, exit"), "{text}");
    }

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
