"""Sends through the unmodified segment-analytics-python with OAuth.

Where and as whom comes in the environment: ENDPOINT, which is the auth server
too, WRITE_KEY, CLIENT_ID, KEY_ID, and KEY_FILE. It sends the tracks 0 to 9,
says "sent" and waits for a line, sends track 10, and then 11 to 20. On its
output it says which it gave up.
"""

import os
import sys

from segment.analytics.client import Client


def gave_up(error, items):
    print(error, file=sys.stderr)
    for item in items:
        print("gave up", item["properties"]["n"], flush=True)


with open(os.environ["KEY_FILE"]) as key:
    analytics = Client(os.environ["WRITE_KEY"], host=os.environ["ENDPOINT"], on_error=gave_up, upload_interval=0.1,
                       oauth_auth_server=os.environ["ENDPOINT"], oauth_client_id=os.environ["CLIENT_ID"],
                       oauth_key_id=os.environ["KEY_ID"], oauth_client_key=key.read())


def send(first, last):
    for n in range(first, last + 1):
        analytics.track(user_id="somebody", event="Counted", properties={"n": n})
    analytics.flush()


send(0, 9)
print("sent", flush=True)
sys.stdin.readline()
send(10, 10)
send(11, 20)
analytics.shutdown()
