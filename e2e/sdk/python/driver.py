"""Sends the calls of e2e/sdk through the unmodified segment-analytics-python.

What it is to do comes in the environment: ENDPOINT, WRITE_KEY, PERSON, COUNT,
and MODE, basic or retry (gzip, small batches). It ends with status 1 if the
SDK gave anything up.
"""

import os
import sys
from datetime import datetime, timedelta, timezone

from segment.analytics.client import Client

person = os.environ["PERSON"]
retry = os.environ["MODE"] == "retry"
failures = []
analytics = Client(os.environ["WRITE_KEY"], host=os.environ["ENDPOINT"], on_error=lambda error, items: failures.append(error),
                   gzip=retry, upload_size=10 if retry else 100, upload_interval=0.1)

ids = dict(user_id=person, anonymous_id=person + "-browser")
analytics.identify(**ids, traits={"email": person + "@example.com", "plan": "gold", "visits": 3})
analytics.track(**ids, event="Order Completed", properties={"revenue": 12.5, "products": [{"sku": "a"}]},
                context={"app": {"name": "Kiosk"}}, integrations={"Other": False},
                timestamp=datetime.now(timezone(timedelta(hours=2))) - timedelta(hours=1))
analytics.page(**ids, category="Docs", name="Home", properties={"path": "/"})
analytics.screen(**ids, category="Docs", name="Menu", properties={"tab": 1})
analytics.group(**ids, group_id="acme", traits={"name": "Acme", "seats": 20})
analytics.alias(previous_id=person + "-old", user_id=person)
for n in range(int(os.environ["COUNT"])):
    analytics.track(user_id=person, event="Counted", properties={"n": n})
analytics.shutdown()

if failures:
    print(failures, file=sys.stderr)
    sys.exit(1)
