import com.segment.analytics.Analytics;
import com.segment.analytics.Callback;
import com.segment.analytics.messages.AliasMessage;
import com.segment.analytics.messages.GroupMessage;
import com.segment.analytics.messages.IdentifyMessage;
import com.segment.analytics.messages.Message;
import com.segment.analytics.messages.MessageBuilder;
import com.segment.analytics.messages.PageMessage;
import com.segment.analytics.messages.ScreenMessage;
import com.segment.analytics.messages.TrackMessage;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Sends the calls of e2e/sdk through the unmodified com.segment.analytics.java. What it is to do
 * comes in the environment: ENDPOINT, WRITE_KEY, PERSON, COUNT, and MODE, basic or retry (small
 * batches). It ends with status 1 if the SDK gave anything up.
 */
public class Driver {
  public static void main(String[] args) throws Exception {
    Map<String, String> env = System.getenv();
    String person = env.get("PERSON");
    int count = Integer.parseInt(env.get("COUNT"));
    CountDownLatch sent = new CountDownLatch(6 + count);
    AtomicInteger failed = new AtomicInteger();
    Analytics analytics =
        Analytics.builder(env.get("WRITE_KEY"))
            .endpoint(env.get("ENDPOINT"))
            .flushQueueSize(env.get("MODE").equals("retry") ? 10 : 250)
            // It waits up to 30 s before its second attempt: the batches wait side by side.
            .networkExecutor(Executors.newFixedThreadPool(5))
            .callback(
                new Callback() {
                  @Override
                  public void success(Message message) {
                    sent.countDown();
                  }

                  @Override
                  public void failure(Message message, Throwable why) {
                    System.err.println(why);
                    failed.incrementAndGet();
                    sent.countDown();
                  }
                })
            .build();

    analytics.enqueue(
        by(person, IdentifyMessage.builder())
            .traits(Map.of("email", person + "@example.com", "plan", "gold", "visits", 3)));
    analytics.enqueue(
        by(person, TrackMessage.builder("Order Completed"))
            .properties(Map.of("revenue", 12.5, "products", List.of(Map.of("sku", "a"))))
            .context(Map.of("app", Map.of("name", "Kiosk")))
            .enableIntegration("Other", false)
            .timestamp(new Date(System.currentTimeMillis() - 3_600_000)));
    analytics.enqueue(
        by(person, PageMessage.builder("Home")).category("Docs").properties(Map.of("path", "/")));
    analytics.enqueue(
        by(person, ScreenMessage.builder("Menu")).properties(Map.of("tab", 1)));
    analytics.enqueue(
        by(person, GroupMessage.builder("acme")).traits(Map.of("name", "Acme", "seats", 20)));
    analytics.enqueue(AliasMessage.builder(person + "-old").userId(person));
    for (int n = 0; n < count; n++) {
      analytics.enqueue(
          TrackMessage.builder("Counted").userId(person).properties(Map.of("n", n)));
    }
    analytics.flush();
    boolean all = sent.await(80, TimeUnit.SECONDS);
    analytics.shutdown();
    System.exit(all && failed.get() == 0 ? 0 : 1);
  }

  private static <M extends Message, B extends MessageBuilder<M, B>> B by(String person, B builder) {
    return builder.userId(person).anonymousId(person + "-browser");
  }
}
