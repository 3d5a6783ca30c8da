import java.io.IOException;
import java.nio.file.Path;
import org.neo4j.configuration.GraphDatabaseSettings;
import org.neo4j.configuration.connectors.BoltConnector;
import org.neo4j.configuration.helpers.SocketAddress;
import org.neo4j.dbms.api.DatabaseManagementService;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;

/**
 * Serves a graph on the loopback interface until its standard input ends, so that it never outlives
 * the program that started it. It takes any password.
 */
public final class GraphServer {

    private GraphServer() {}

    public static void main(String[] args) throws IOException {
        Path directory = Path.of(args[0]);
        SocketAddress address = new SocketAddress("localhost", Integer.parseInt(args[1]));
        DatabaseManagementServiceBuilder builder = new DatabaseManagementServiceBuilder(directory);
        builder.setConfig(GraphDatabaseSettings.auth_enabled, false);
        builder.setConfig(BoltConnector.enabled, true);
        builder.setConfig(BoltConnector.listen_address, address);
        DatabaseManagementService server = builder.build();
        try {
            System.out.println("ready");
            while (System.in.read() >= 0) {
                // Nothing is expected but the end.
            }
        } finally {
            server.shutdown();
        }
    }
}
