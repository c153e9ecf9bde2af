// Clients of java.net.http, each an HttpClient: java Client.java host=… (spec.py, log.py)
//
// HTTP/1.1 is asked for, as the first request would else offer an upgrade to HTTP/2. The library shows neither
// its connections nor their ports.

import java.io.EOFException;
import java.io.IOException;
import java.net.ConnectException;
import java.net.SocketException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.HttpTimeoutException;
import java.time.Duration;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Scanner;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;

public final class Client implements Runnable {
    private static final Map<String, String> ORDER = new HashMap<>();
    private static final Executor THREADS = Executors.newCachedThreadPool(Client::daemon);

    private final HttpClient http =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).executor(THREADS).build();
    private final BlockingQueue<String> told = new LinkedBlockingQueue<>();
    private final int number;
    private final String name;
    private int asked;

    private Client(int number) {
        this.number = number;
        this.name = ORDER.get("client") + "-" + number;
    }

    public static void main(String[] words) throws InterruptedException {
        for (String word : words) {
            String[] parts = word.split("=", 2);
            ORDER.put(parts[0], parts[1]);
        }
        Client[] clients = new Client[(int) said("count")];
        for (int index = 0; index < clients.length; index++) {
            clients[index] = new Client(index + 1);
            daemon(clients[index]).start();
        }
        if (onDemand()) {
            Scanner lines = new Scanner(System.in);
            while (lines.hasNextLine()) {
                String[] parts = lines.nextLine().split(" ");
                clients[Integer.parseInt(parts[1]) - 1].told.add(parts[0]);
            }
        } else {
            Thread.sleep((long) (said("lifetime_s") * 1000));
        }
    }

    @Override
    public void run() {
        try {
            if (!onDemand()) {
                pause((number - 1) / said("count") / said("rate"));
            }
            while (true) {
                double began = monotonic();
                asked++;
                ask(onDemand() ? told.take() : method());
                if (!onDemand()) {
                    pause(began + 1 / said("rate") - monotonic());
                }
            }
        } catch (InterruptedException end) {
            Thread.currentThread().interrupt();
        }
    }

    private void ask(String method) throws InterruptedException {
        String id = name + "." + asked;
        HttpRequest.Builder request =
                HttpRequest.newBuilder(
                        URI.create("http://" + ORDER.get("host") + ":" + ORDER.get("port") + "/?" + id));
        request.method(method, method.equals("POST") ? BodyPublishers.ofString(id) : BodyPublishers.noBody());
        if (said("max_time_s") > 0) {
            request.timeout(Duration.ofNanos((long) (said("max_time_s") * 1e9)));
        }
        double started = monotonic();
        try {
            HttpResponse<String> response = http.send(request.build(), BodyHandlers.ofString());
            boolean ok = response.statusCode() < 400;
            String server = ok ? response.body().split("\n", 2)[0] : "";
            log(id, method, started, ok ? "ok" : "http_error", response.statusCode(), server, "");
        } catch (IOException error) {
            log(id, method, started, outcome(error), 0, "", error.toString());
        }
    }

    /** By types alone, but where the kernel's word comes as a mere IOException: from a write. */
    private static String outcome(IOException error) {
        if (error instanceof HttpTimeoutException) {
            return "timeout";
        }
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof ConnectException) {
                return "refused";
            }
            if (cause instanceof EOFException) {
                return "closed";
            }
            String words = String.valueOf(cause.getMessage()).toLowerCase(Locale.ROOT);
            if (cause instanceof SocketException || words.contains("reset") || words.contains("broken pipe")) {
                return "reset";
            }
        }
        return "other";
    }

    private String method() {
        int every = (int) said("post_every");
        return every > 0 && asked % every == 0 ? "POST" : "GET";
    }

    private void log(
            String id, String method, double started, String outcome, int status, String server, String error) {
        String line =
                String.format(
                        Locale.ROOT,
                        "{\"client\": %s, \"id\": %s, \"method\": %s, \"started\": %.6f, \"ended\": %.6f, "
                                + "\"outcome\": %s, \"status\": %d, \"server\": %s, \"reused\": null, "
                                + "\"port\": 0, \"error\": %s}\n",
                        quoted(name), quoted(id), quoted(method), started, monotonic(),
                        quoted(outcome), status, quoted(server), quoted(error));
        synchronized (System.out) {
            System.out.print(line);
            System.out.flush();
        }
    }

    private static String quoted(String text) {
        StringBuilder found = new StringBuilder("\"");
        for (char letter : text.toCharArray()) {
            boolean plain = letter >= ' ' && letter < 127 && letter != '"' && letter != '\\';
            found.append(plain ? String.valueOf(letter) : String.format("\\u%04x", (int) letter));
        }
        return found.append('"').toString();
    }

    private static double said(String key) {
        return Double.parseDouble(ORDER.get(key));
    }

    private static boolean onDemand() {
        return ORDER.get("on_demand").equals("1");
    }

    /** CLOCK_MONOTONIC: what nanoTime is on Linux. */
    private static double monotonic() {
        return System.nanoTime() / 1e9;
    }

    private static void pause(double seconds) throws InterruptedException {
        Thread.sleep(Math.max(0, (long) (seconds * 1000)));
    }

    private static Thread daemon(Runnable task) {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    }
}
