"""A program over python-bitchat-client, in an environment of its own: JSON out, commands in."""

# Nothing of this project is imported here.

import json
import sys
import threading

from python_bitchat_client import configure_logging, create_client  # type: ignore[import-not-found]


def tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


configure_logging("DEBUG")  # to the log that a failed test leaves
client = create_client()
client.set_handle("simple")
client.set_message_handler(
    lambda message: tell(
        kind="message", sender=message.sender, text=message.text, private=message.is_private
    )
)
client.set_status_handler(
    lambda status: tell(kind="status", code=status.code, detail=status.detail)
)
threading.excepthook = lambda args: tell(kind="fault", text=repr(args.exc_value))
client.start()
for line in sys.stdin:
    command, _, rest = line.rstrip("\n").partition(" ")
    if command == "say":
        tell(kind="said", ok=client.send_message(rest))
    elif command == "dm":
        to, _, text = rest.partition(" ")
        tell(kind="said", ok=client.send_direct_message(to, text))
    elif command == "peers":
        peers = [(peer.peer_id, peer.nickname) for peer in client.list_peers()]
        tell(kind="peers", peers=peers)
    elif command == "end":
        break
client.stop()
