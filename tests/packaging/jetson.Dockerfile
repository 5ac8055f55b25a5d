# What matters of NVIDIA's images for pip: an OpenCV of a Debian package that pip does not see, built
# against numpy 1, an old numpy of Debian's, and a torch and a TensorRT that do not load without a board.
FROM python-slim
RUN apt-get update && apt-get install --yes --no-install-recommends python3-numpy
RUN python3 -m venv /opt/tool \
    && /opt/tool/bin/pip install --no-deps --target /opt/cv2 opencv-python-headless==4.8.0.76 \
    && mv /opt/cv2/cv2 /opt/cv2/*.libs /usr/lib/python3/dist-packages/ \
    && rm -r /opt/tool /opt/cv2
COPY dist-packages /usr/lib/python3/dist-packages
