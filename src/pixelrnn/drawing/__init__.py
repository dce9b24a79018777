"""Drawing: pictures of images, figures and charts."""
