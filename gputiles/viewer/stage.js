// OpenSeadragon: loaded, and set up for our tiles.
import { get, make } from "./dom.js";

const HINT =
  "OpenSeadragon is not here: run `make viewer`, or start the server with --openseadragon URL.";
const CACHE = 2 ** 28; // bytes of tiles

/** Load OpenSeadragon from where the page says. */
export function loadLibrary(address) {
  return new Promise((resolve, reject) => {
    if (!address) return void reject(new Error(HINT));
    const failed = () => reject(new Error(`OpenSeadragon cannot be loaded from ${address}.`));
    document.head.append(make("script", { src: address, onload: resolve, onerror: failed }));
  });
}

/** Open the viewer of an image; pans and zooms find the tiles again that it keeps. */
export function openViewer({ tileWidth, tileHeight }) {
  const viewer = OpenSeadragon({
    element: get("osd"),
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: false,
    visibilityRatio: 0.3,
    maxZoomPixelRatio: 16,
    minZoomImageRatio: 0.6,
    zoomPerScroll: 1.25,
    animationTime: 0.5,
    springStiffness: 9,
    maxTilesPerFrame: 1024, // all that are seen, so that they are one batch
    imageLoaderLimit: 0,
    maxImageCacheCount: Math.max(200, Math.floor(CACHE / (4 * tileWidth * tileHeight))),
    timeout: 600_000, // the server gives up earlier, and says why
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsTouch: { pinchToZoom: true },
    smoothTileEdgesMinZoom: Infinity,
  });
  // Before it draws, it drops what waits to be asked for. As of 6.1.1 that are batches, and it takes their
  // tiles for asked for all the same, so that they never come; nothing else waits, for there is no limit.
  viewer.imageLoader.clear = () => {};
  return viewer;
}
