#include "image_file.h"

// clang-format off
#include <cstdio>  // jpeglib.h needs it and does not include it
#include <jpeglib.h>
// clang-format on
#include <png.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csetjmp>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace {

constexpr int64_t kMaxPixels = 100'000'000;  // a small file may claim any size

void check_size(int64_t height, int64_t width) {
  if (height < 1 || width < 1 || height * width > kMaxPixels) {
    throw std::runtime_error(std::to_string(width) + "x" + std::to_string(height) +
                             " pixels; expected 1 to " + std::to_string(kMaxPixels));
  }
}

std::vector<uint8_t> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::strerror(errno));
  std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw std::runtime_error("it can't be read");
  return bytes;
}

/// libjpeg leaves a failed call by longjmp, which must not skip a destructor: everything that has one
/// lives here, outside the functions that call libjpeg.
struct JpegDecoder {
  jpeg_decompress_struct decompress;
  jpeg_error_mgr errors;
  std::jmp_buf failed;
  std::array<char, JMSG_LENGTH_MAX> message;

  JpegDecoder() : decompress(), errors(), failed(), message() {
    decompress.err = jpeg_std_error(&errors);
    decompress.client_data = this;
    errors.error_exit = [](j_common_ptr common) {
      auto* self = static_cast<JpegDecoder*>(common->client_data);
      common->err->format_message(common, self->message.data());
      std::longjmp(self->failed, 1);
    };
    // A truncated file is only a warning to libjpeg, and grey pixels to whoever looks at the result.
    errors.emit_message = [](j_common_ptr common, int level) {
      if (level < 0) common->err->error_exit(common);
    };
    jpeg_create_decompress(&decompress);
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&decompress); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  bool start(const std::vector<uint8_t>& bytes) {
    if (setjmp(failed) != 0) return false;
    jpeg_mem_src(&decompress, bytes.data(), bytes.size());
    jpeg_read_header(&decompress, TRUE);
    check_size(decompress.image_height, decompress.image_width);
    decompress.out_color_space = JCS_RGB;
    jpeg_start_decompress(&decompress);
    return true;
  }

  bool read_rows(uint8_t* pixels) {
    if (setjmp(failed) != 0) return false;
    while (decompress.output_scanline < decompress.output_height) {
      JSAMPROW row = pixels + size_t{3} * decompress.output_width * decompress.output_scanline;
      jpeg_read_scanlines(&decompress, &row, 1);
    }
    jpeg_finish_decompress(&decompress);
    return true;
  }
};

Image decode_jpeg(const std::vector<uint8_t>& bytes) {
  JpegDecoder decoder;
  if (!decoder.start(bytes)) throw std::runtime_error(decoder.message.data());
  Image image{
      .height = decoder.decompress.output_height, .width = decoder.decompress.output_width, .pixels = {}};
  image.pixels.resize(static_cast<size_t>(3 * image.height * image.width));
  if (!decoder.read_rows(image.pixels.data())) throw std::runtime_error(decoder.message.data());
  return image;
}

/// Samples as the file stores them, whatever it says of gamma: what networks are trained on is read like
/// that, and png_image_finish_read, the shorter way, converts. libpng, too, leaves by longjmp.
struct PngDecoder {
  const std::vector<uint8_t>& bytes;
  size_t next = 0;
  png_structp png;
  png_infop info;
  std::jmp_buf failed;
  std::array<char, 256> message;

  explicit PngDecoder(const std::vector<uint8_t>& file)
      : bytes(file),
        png(png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, ignore)),
        info(png == nullptr ? nullptr : png_create_info_struct(png)),
        failed(),
        message() {
    if (info == nullptr) {
      png_destroy_read_struct(&png, nullptr, nullptr);
      throw std::runtime_error("libpng has no memory");
    }
  }
  ~PngDecoder() { png_destroy_read_struct(&png, &info, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  int64_t height() const { return png_get_image_height(png, info); }
  int64_t width() const { return png_get_image_width(png, info); }

  bool start() {
    if (setjmp(failed) != 0) return false;
    png_set_read_fn(png, this, read);
    png_read_info(png, info);
    check_size(height(), width());
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    return true;
  }

  bool read_rows(uint8_t* pixels) {
    if (setjmp(failed) != 0) return false;
    const int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    for (int pass = 0; pass < passes; ++pass) {
      for (int64_t y = 0; y < height(); ++y) png_read_row(png, pixels + 3 * width() * y, nullptr);
    }
    return true;
  }

 private:
  static void fail(png_structp reader, png_const_charp text) {
    auto* self = static_cast<PngDecoder*>(png_get_error_ptr(reader));
    std::snprintf(self->message.data(), self->message.size(), "%s", text);
    std::longjmp(self->failed, 1);
  }
  static void ignore(png_structp /*reader*/, png_const_charp /*warning*/) {}
  static void read(png_structp reader, png_bytep out, size_t count) {
    auto* self = static_cast<PngDecoder*>(png_get_io_ptr(reader));
    if (count > self->bytes.size() - self->next) png_error(reader, "the PNG file ends too early");
    std::copy_n(self->bytes.data() + self->next, count, out);
    self->next += count;
  }
};

Image decode_png(const std::vector<uint8_t>& bytes) {
  PngDecoder decoder(bytes);
  if (!decoder.start()) throw std::runtime_error(decoder.message.data());
  Image image{.height = decoder.height(), .width = decoder.width(), .pixels = {}};
  image.pixels.resize(static_cast<size_t>(3 * image.height * image.width));
  if (!decoder.read_rows(image.pixels.data())) throw std::runtime_error(decoder.message.data());
  return image;
}

bool starts_with(const std::vector<uint8_t>& bytes, std::initializer_list<uint8_t> signature) {
  return bytes.size() >= signature.size() && std::equal(signature.begin(), signature.end(), bytes.begin());
}

}  // namespace

Image read_image(const std::string& path) try {
  const std::vector<uint8_t> bytes = read_bytes(path);
  if (starts_with(bytes, {0xFF, 0xD8, 0xFF})) return decode_jpeg(bytes);
  if (starts_with(bytes, {0x89, 'P', 'N', 'G'})) return decode_png(bytes);
  throw std::runtime_error("it is neither a JPEG nor a PNG file");
} catch (const std::runtime_error& error) {
  throw std::runtime_error(path + ": " + error.what());
}
