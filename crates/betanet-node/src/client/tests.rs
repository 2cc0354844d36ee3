#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::view::Mailbox;
use betanet_sphinx::{MailboxId, NodeId};

use super::*;

/// A client whose driver is the test, by the returned commands.
fn client() -> (Client, mpsc::Receiver<Command>) {
    let (commands, queue) = mpsc::channel(1);
    let authority = NodeId::from([1; 32]);
    let mailbox = Mailbox { edge: NodeId::from([2; 32]), mailbox: MailboxId::from([3; 16]) };
    let client = Client {
        address: Address::new(vec![mailbox], [9; 32]).unwrap(),
        hops_default: 3,
        commands,
        incoming: tokio::sync::Mutex::new(mpsc::channel(1).1),
        shared: Arc::new(Shared::new("test".into(), 1)),
        edges: Arc::new(Edges::new(PathBuf::new(), Views::new("test".into(), authority))),
        worker_key: SigningKey::from_bytes(&[4; 32]),
        authority,
        workers: Mutex::new(None),
        links: tokio::sync::Mutex::new(None),
        closed: watch::Sender::new(false),
    };
    (client, queue)
}

#[tokio::test]
async fn a_request_times_out_while_too_much_is_under_way() {
    let (client, mut queue) = client();
    let busy = async {
        while let Some(command) = queue.recv().await {
            let Command::Request { done, .. } = command else { panic!("{command:?}") };
            let _ = done.send(Err(SendFailure::Refused(SendError::Busy { messages: 1, bytes: 1 })));
        }
    };
    let to = client.address();
    let request = client.request(&to, Vec::new(), 3, 1, Duration::from_millis(50));
    tokio::select! {
        () = busy => panic!("the client is open"),
        outcome = request => assert!(matches!(outcome, Err(ClientError::Timeout))),
        () = tokio::time::sleep(Duration::from_mins(1)) => panic!("it still waits"),
    }
}
