// A pinhole camera over flat ground that answers the calibration's requests: it knows the truth, so a pair's distance from it is the residual.
// It stands for the server's fit, which crates/engine has and tests.
import type { ServerResponse } from "node:http";
import type { Received } from "./server";

const [HEIGHT_M, TILT] = [6, (20 * Math.PI) / 180];
const HALF_WIDTH = Math.tan((30 * Math.PI) / 180);
const ORIGIN = { lon: 113.6253, lat: 34.7466 };
const METRES_PER_DEGREE = { lon: 111_320 * Math.cos((ORIGIN.lat * Math.PI) / 180), lat: 110_940 };

type Pair = [number, number];

/** Metres right of and ahead of the camera. */
function metresOf([x, y]: Pair): Pair {
  const [right, down] = [(x - 0.5) * 2 * HALF_WIDTH, (y - 0.35) * 2 * HALF_WIDTH * (9 / 16)];
  const far = HEIGHT_M / (Math.sin(TILT) + down * Math.cos(TILT));
  return [far * right, far * (Math.cos(TILT) - down * Math.sin(TILT))];
}

export function pictureOf([right, ahead]: Pair): Pair {
  const [sin, cos] = [Math.sin(TILT), Math.cos(TILT)];
  const down = (HEIGHT_M * cos - ahead * sin) / (HEIGHT_M * sin + ahead * cos);
  const far = HEIGHT_M / (sin + down * cos);
  return [right / far / (2 * HALF_WIDTH) + 0.5, down / (2 * HALF_WIDTH * (9 / 16)) + 0.35];
}

export function groundOf(picture: Pair): Pair {
  const [right, ahead] = metresOf(picture);
  return [ORIGIN.lon + right / METRES_PER_DEGREE.lon, ORIGIN.lat + ahead / METRES_PER_DEGREE.lat];
}

export function fitOf(points: { picture: Pair; ground: Pair }[]): object {
  const residuals = points.map(({ picture, ground }) => {
    const [lon, lat] = groundOf(picture);
    return Math.hypot((lon - ground[0]) * METRES_PER_DEGREE.lon, (lat - ground[1]) * METRES_PER_DEGREE.lat);
  });
  const line = (from: Pair, to: Pair) =>
    Array.from({ length: 21 }, (_, i) => pictureOf([from[0] + ((to[0] - from[0]) * i) / 20, from[1] + ((to[1] - from[1]) * i) / 20]));
  const across = [8, 9, 10, 11, 12, 13, 14, 16, 18, 20].map((ahead) => line([-12, ahead], [12, ahead]));
  const along = Array.from({ length: 25 }, (_, i) => line([i - 12, 6], [i - 12, 20]));
  return {
    residuals_m: residuals,
    rms_m: Math.sqrt(residuals.reduce((sum, r) => sum + r * r, 0) / residuals.length),
    grid: { step_m: 1, lines: [...across, ...along] },
    cells: [{ code: "410102001", lines: [line([-12, 11.5], [3, 11]), line([3, 11], [3.5, 6])] }],
    limit: [line([-14, 19], [14, 19])],
  };
}

export function answerFit({ body }: Received, response: ServerResponse): void {
  const { points } = body as { points: { picture: Pair; ground: Pair }[] };
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(fitOf(points)));
}
