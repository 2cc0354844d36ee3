//! The tokio driver around the mix: links, node daemon, directory authority, client, local net; the betanet binary.
