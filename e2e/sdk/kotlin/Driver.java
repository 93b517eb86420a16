import com.segment.analytics.kotlin.core.Analytics;
import com.segment.analytics.kotlin.core.BaseEvent;
import com.segment.analytics.kotlin.core.Configuration;
import com.segment.analytics.kotlin.core.Settings;
import com.segment.analytics.kotlin.core.TrackEvent;
import com.segment.analytics.kotlin.core.compat.Builders;
import com.segment.analytics.kotlin.core.compat.ConfigurationBuilder;
import com.segment.analytics.kotlin.core.compat.JavaAnalytics;
import com.segment.analytics.kotlin.core.platform.Plugin;
import com.segment.analytics.kotlin.core.utilities.EventTransformer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * Sends the calls of e2e/sdk through the unmodified com.segment.analytics.kotlin:core, which is
 * what runs on Android too. What it is to do comes in the environment: ENDPOINT, which must be
 * https, WRITE_KEY, PERSON, COUNT, and MODE, basic or retry. It ends with status 1 if something is
 * left on the disk.
 */
public class Driver {
  public static void main(String[] args) throws Exception {
    Map<String, String> env = System.getenv();
    String person = env.get("PERSON");
    int count = Integer.parseInt(env.get("COUNT"));
    forget(Path.of("/tmp/analytics-kotlin", env.get("WRITE_KEY"))); // where the SDK keeps what it has not sent
    String host = env.get("ENDPOINT").replaceFirst("https://", "") + "/v1";
    Configuration configuration =
        new ConfigurationBuilder(env.get("WRITE_KEY"))
            .setApplication("kith")
            .setApiHost(host)
            .setCdnHost(host)
            .setFlushAt(10)
            .setFlushInterval(1)
            .build();
    JavaAnalytics analytics = new JavaAnalytics(configuration);
    Counter counter = new Counter(5 + count);
    analytics.add(new Enrichment()).add(counter);

    analytics.identify(
        person, Map.of("email", person + "@example.com", "plan", "gold", "visits", 3));
    analytics.track(
        "Order Completed",
        Builders.buildJsonObject(
            o ->
                o.put("revenue", 12.5)
                    .putJsonArray("products", a -> a.addJsonObject(p -> p.put("sku", "a")))));
    analytics.screen("Menu", Builders.buildJsonObject(o -> o.put("tab", 1)), "Docs");
    analytics.group("acme", Map.of("name", "Acme", "seats", 20));
    for (int n = 0; n < count; n++) {
      analytics.track("Counted", Map.of("n", n));
    }
    analytics.alias(person + "-new"); // who they are from here on

    if (!counter.left.await(30, TimeUnit.SECONDS)) {
      System.err.println(counter.left.getCount() + " events were not worked on");
      System.exit(1);
    }
    // What failed is sent again at the next flush.
    List<String> left = List.of("?");
    for (int quiet = 0, i = 0; quiet < 3 && i < 200; i++) {
      analytics.flush();
      TimeUnit.MILLISECONDS.sleep(100);
      left = analytics.pendingUploads();
      quiet = left.isEmpty() ? quiet + 1 : 0;
    }
    if (!left.isEmpty()) {
      System.err.println("left on the disk: " + left);
    }
    System.exit(left.isEmpty() ? 0 : 1);
  }

  private static void forget(Path folder) throws Exception {
    if (Files.exists(folder)) {
      try (Stream<Path> all = Files.walk(folder)) {
        for (Path p : all.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(p);
        }
      }
    }
  }

  /** A plugin that does nothing. */
  private abstract static class Idle implements Plugin {
    private Analytics analytics;

    @Override
    public Analytics getAnalytics() {
      return analytics;
    }

    @Override
    public void setAnalytics(Analytics analytics) {
      this.analytics = analytics;
    }

    @Override
    public void setup(Analytics analytics) {
      this.analytics = analytics;
    }

    @Override
    public void update(Settings settings, UpdateType type) {}

    @Override
    public void shutdown() {}
  }

  /** Gives the order what a track call cannot: its time, more context, integrations. */
  private static class Enrichment extends Idle {
    @Override
    public Type getType() {
      return Type.Enrichment;
    }

    @Override
    public BaseEvent execute(BaseEvent event) {
      if (event instanceof TrackEvent track && track.getEvent().equals("Order Completed")) {
        event.setTimestamp(Instant.now().minusSeconds(3600).toString());
        EventTransformer.putInContext(
            event, "app", Builders.buildJsonObject(o -> o.put("name", "Kiosk")));
        EventTransformer.disableIntegration(event, "Other");
      }
      return event;
    }
  }

  /** Counts the events that have been through everything. */
  private static class Counter extends Idle {
    final CountDownLatch left;

    Counter(int events) {
      left = new CountDownLatch(events);
    }

    @Override
    public Type getType() {
      return Type.After;
    }

    @Override
    public BaseEvent execute(BaseEvent event) {
      left.countDown();
      return event;
    }
  }
}
