package vn.truyvet.bench;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.HashSet;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.LogAndContinueExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams as documented: https://kafka.apache.org/41/streams/developer-guide/processor-api (state stores,
 * punctuators) and https://kafka.apache.org/41/streams/developer-guide/dsl-api (global tables, joins). What was seen and
 * the counts are RocksDB stores with changelogs; {@code processing.guarantee} is the first argument. Counts that have
 * changed are sent once a second.
 */
public final class Bench {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration COUNTS_EVERY = Duration.ofSeconds(1);
    private static final Pattern ID = Pattern.compile("[A-Za-z0-9_-]{1,64}");
    private static final Pattern PERSON = Pattern.compile("[0-9a-f]{32}");
    private static final Pattern TIME = Pattern.compile(
            "(19[7-9]|20[0-9])[0-9]-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\\.[0-9]+)?(Z|[+-][0-9]{2}:[0-5][0-9])");
    private static final Set<String> DIRECTIONS = Set.of("in", "out", "pass");
    private static final Set<String> SOURCES = Set.of("pc_covid", "bluezone", "ncovi", "vhd", "vneid", "hue_s",
            "national_qr", "cccd", "bhyt", "checkpoint", "paper", "other");

    private Bench() {}

    /** A scan event. */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Scan(String scan_id, String person_id, String venue_id, String direction, String occurred_at,
            String source) {
        boolean valid() {
            return scan_id != null && ID.matcher(scan_id).matches()
                    && person_id != null && PERSON.matcher(person_id).matches()
                    && venue_id != null && ID.matcher(venue_id).matches()
                    && direction != null && DIRECTIONS.contains(direction)
                    && source != null && SOURCES.contains(source)
                    && occurred_at != null && TIME.matcher(occurred_at).matches();
        }
    }

    /** What a scan takes from its venue. */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Venue(String ward_code, String district_code, String province_code, String category, double lat,
            double lon) {}

    /** An accepted scan with its venue's attributes. */
    record Enriched(String scan_id, String person_id, String venue_id, String direction, String occurred_at,
            String source, String category, String province_code, String district_code, String ward_code,
            double lat, double lon) {
        static Enriched of(Scan scan, Venue venue) {
            return new Enriched(scan.scan_id, scan.person_id, scan.venue_id, scan.direction,
                    utc(OffsetDateTime.parse(scan.occurred_at).toInstant()), scan.source, venue.category,
                    venue.province_code, venue.district_code, venue.ward_code, venue.lat, venue.lon);
        }

        String cell() {
            return occurred_at.substring(0, 16) + '|' + ward_code;
        }
    }

    /** Times as the pipeline writes them: UTC, to the millisecond. */
    static String utc(Instant moment) {
        String text = moment.toString();
        return text.length() == 20 ? text.substring(0, 19) + ".000Z" : text.substring(0, 23) + "Z";
    }

    /** The counts of one minute and ward in one partition. */
    record Counts(String minute, String ward_code, int scans, int ins, int outs, int passes) {
        static Counts none(String cell) {
            return new Counts(cell.substring(0, 16) + ":00.000Z", cell.substring(17), 0, 0, 0, 0);
        }

        Counts and(String direction) {
            return switch (direction) {
                case "in" -> new Counts(minute, ward_code, scans + 1, ins + 1, outs, passes);
                case "out" -> new Counts(minute, ward_code, scans + 1, ins, outs + 1, passes);
                default -> new Counts(minute, ward_code, scans + 1, ins, outs, passes + 1);
            };
        }
    }

    static <T> Serde<T> json(Class<T> type) {
        Serializer<T> serializer = (topic, value) -> {
            try {
                return value == null ? null : JSON.writeValueAsBytes(value);
            } catch (JsonProcessingException error) {
                throw new IllegalStateException(error);
            }
        };
        Deserializer<T> deserializer = (topic, bytes) -> {
            try {
                return bytes == null ? null : JSON.readValue(bytes, type);
            } catch (IOException error) {
                throw new org.apache.kafka.common.errors.SerializationException(error);
            }
        };
        return Serdes.serdeFrom(serializer, deserializer);
    }

    /** Hands on what its person has not sent before. */
    static final class OnlyNew extends ContextualFixedKeyProcessor<String, Scan, Scan> {
        private KeyValueStore<String, byte[]> seen;

        @Override
        public void init(FixedKeyProcessorContext<String, Scan> context) {
            super.init(context);
            seen = context.getStateStore("seen");
        }

        @Override
        public void process(FixedKeyRecord<String, Scan> record) {
            Scan scan = record.value();
            if (seen.putIfAbsent(scan.person_id + '|' + scan.scan_id, new byte[] {1}) == null) {
                context().forward(record);
            }
        }
    }

    /** Counts, and sends once a second what has changed; the key names the partition too, for each counts by itself. */
    static final class Counting extends ContextualProcessor<String, Enriched, String, Counts> {
        private final Set<String> changed = new HashSet<>();
        private KeyValueStore<String, Counts> counts;

        @Override
        public void init(ProcessorContext<String, Counts> context) {
            super.init(context);
            counts = context.getStateStore("counts");
            context.schedule(COUNTS_EVERY, PunctuationType.WALL_CLOCK_TIME, this::send);
        }

        @Override
        public void process(Record<String, Enriched> record) {
            String cell = record.value().cell();
            Counts before = counts.get(cell);
            counts.put(cell, (before == null ? Counts.none(cell) : before).and(record.value().direction));
            changed.add(cell);
        }

        private void send(long now) {
            String part = context().taskId().partition() + "|";
            for (String cell : changed) {
                context().forward(new Record<>(part + cell, counts.get(cell), now));
            }
            changed.clear();
        }
    }

    static StreamsBuilder topology(Map<String, String> task) {
        StreamsBuilder builder = new StreamsBuilder();
        Serde<String> text = Serdes.String();
        builder.addStateStore(Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore("seen"), text, Serdes.ByteArray()));
        builder.addStateStore(Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore("counts"), text, json(Counts.class)).withCachingEnabled());
        GlobalKTable<String, Venue> venues = builder.globalTable(task.get("BENCH_VENUES"),
                Consumed.with(text, json(Venue.class)), Materialized.as(Stores.inMemoryKeyValueStore("venues")));
        KStream<String, Enriched> enriched = builder
                .stream(task.get("BENCH_SCANS"), Consumed.with(text, json(Scan.class)))
                .filter((person, scan) -> scan != null && scan.valid())
                .processValues(OnlyNew::new, "seen")
                .join(venues, (person, scan) -> scan.venue_id, Enriched::of);
        enriched.to(task.get("BENCH_ENRICHED"), Produced.with(text, json(Enriched.class)));
        enriched.process(Counting::new, "counts")
                .to(task.get("BENCH_COUNTS"), Produced.with(text, json(Counts.class)));
        return builder;
    }

    /** Runs until SIGTERM. */
    public static void main(String[] arguments) {
        Map<String, String> task = System.getenv();
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, task.get("BENCH_GROUP"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, task.get("BENCH_BROKERS"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, task.get("BENCH_DIRECTORY"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[0]);
        settings.put(StreamsConfig.DESERIALIZATION_EXCEPTION_HANDLER_CLASS_CONFIG,
                LogAndContinueExceptionHandler.class);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        KafkaStreams streams = new KafkaStreams(topology(task).build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}
