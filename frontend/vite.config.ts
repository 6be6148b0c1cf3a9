import { defineConfig } from "vite";

/** Built into the Python package, which serves `index.html` at `/` and `/read/ID`, hence absolute addresses. */
export default defineConfig({
  base: "/",
  build: {
    outDir: "../src/restain/web/static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // no data: addresses, which the content security policy would have to allow
    modulePreload: { polyfill: false }, // an inline script otherwise
    chunkSizeWarningLimit: 900, // OpenSeadragon is one piece
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000" } },
});
