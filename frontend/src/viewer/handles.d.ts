/** For tests and curious people: `restain.stage.drawn[0][0].pose()`. */
interface Window {
  restain?: Record<string, unknown>;
}
