"""The node: it receives studies by DICOM or from a folder, tells each once, and sends the answer where it is told to."""
