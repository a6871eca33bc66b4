/** Stands where LocalStack looks for its own agent, which lifts a limit of 20 indexes a table that we stay below. */
public class NoPatches {
  public static void premain(String options, java.lang.instrument.Instrumentation instrumentation) {}
}
