package evit;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Paths;

/** Runs a bundle's PixelMath on a picture and logits from files (big-endian). */
public final class PixelMathTrial {
    public static void main(String[] words) throws IOException {
        int height;
        int width;
        int[] argb;
        try (DataInputStream in = new DataInputStream(new FileInputStream(words[0]))) {
            height = in.readInt();
            width = in.readInt();
            byte[] raw = in.readAllBytes();
            argb = new int[height * width];
            ByteBuffer.wrap(raw).asIntBuffer().get(argb);
        }
        byte[] raw = Files.readAllBytes(Paths.get(words[1]));
        float[] logits = new float[raw.length / 4];
        ByteBuffer.wrap(raw).asFloatBuffer().get(logits);
        try (DataOutputStream out = new DataOutputStream(new FileOutputStream(words[2]))) {
            byte[] input = PixelMath.input(argb, height, width);
            float[] floats = PixelMath.floats(input);
            for (int i = 0; i < input.length; i++) {
                if (floats[i] != (input[i] & 0xff)) {
                    throw new IllegalStateException("floats differ from the bytes at " + i);
                }
            }
            byte[] classes = PixelMath.classMap(logits, height, width);
            out.write(input);
            out.write(classes);
            PixelMath.blend(argb, classes, PixelMath.ALPHA);
            for (int pixel : argb) {
                out.writeInt(pixel);
            }
        }
    }
}
