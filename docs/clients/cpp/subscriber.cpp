// Follows a robot over ZeroMQ: middleware/inphase/WIRE.md is the page, this is all of it.
//
//   apt-get install g++ pkg-config libzmq3-dev cppzmq-dev nlohmann-json3-dev
//   g++ -std=c++17 -O2 subscriber.cpp -o subscriber $(pkg-config --cflags --libs libzmq)
//   ./subscriber tcp://127.0.0.1:5570 --count 10
//   ./subscriber ipc:///tmp/inphase-demo/frames --control ipc:///tmp/inphase-demo/control
//
// --json      a JSON object per frame, as `inphase echo --json` prints it
// --count N   end after N frames; else at the robot's end
// --control   ask the robot for its description first, and for its counts at the end
// --estop     with --control: after the frames, the emergency stop

#include <cmath>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <zmq.hpp>
#include <zmq_addon.hpp>

using nlohmann::json;
using Bytes = std::vector<std::uint8_t>;
using Parts = std::vector<zmq::message_t>;

constexpr int WIRE = 5;
constexpr std::int64_t ABSENT = -0x7fffffffffffffff;  // a time or an age that is not known
constexpr int TIMEOUT_MS = 30'000, ANSWER_MS = 10'000;
const std::string DESCRIPTION("inphase.description\0", 20);
const std::string FRAME("inphase.frame\0", 14);
const std::string END("inphase.end\0", 12);

// ---- numbers ---------------------------------------------------------------------------------

// the name of a number; one that is newer than the robot's list says so
std::string name_of(const json &number, const json &names)
{
    const auto index = number.get<std::size_t>();
    return index < names.size() ? names[index].get<std::string>()
                                : "unknown (" + std::to_string(index) + ")";
}

// the names of the bits that are set, lowest first
json names_of(const json &flags, const json &names)
{
    json found = json::array();
    for (std::size_t bit = 0; bit < names.size(); bit++)
        if (flags.get<std::uint32_t>() >> bit & 1)
            found.push_back(names[bit]);
    return found;
}

json known(const json &stamp)
{
    const auto value = stamp.get<std::int64_t>();
    return value == ABSENT ? json() : json(value);
}

template <typename T> T raw(const std::uint8_t *at, bool is_big)
{
    std::uint8_t bytes[sizeof(T)];
    for (std::size_t k = 0; k < sizeof(T); k++)
        bytes[k] = at[is_big ? sizeof(T) - 1 - k : k];  // this host is little endian
    T value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
}

double half(std::uint16_t bits)
{
    const int exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 0x1f)
        return fraction ? std::nan("") : sign * std::numeric_limits<double>::infinity();
    if (exponent == 0)
        return sign * std::ldexp(fraction, -24);
    return sign * std::ldexp(1 + fraction / 1024.0, exponent - 15);
}

// one number of a NumPy dtype such as <f8 or |u1
json number(const std::string &dtype, const std::uint8_t *at)
{
    const bool is_big = dtype[0] == '>';
    const std::string kind = dtype.substr(1);
    if (kind == "f8") return raw<double>(at, is_big);
    if (kind == "f4") return raw<float>(at, is_big);
    if (kind == "f2") return half(raw<std::uint16_t>(at, is_big));
    if (kind == "i8") return raw<std::int64_t>(at, is_big);
    if (kind == "i4") return raw<std::int32_t>(at, is_big);
    if (kind == "i2") return raw<std::int16_t>(at, is_big);
    if (kind == "i1") return raw<std::int8_t>(at, is_big);
    if (kind == "u8") return raw<std::uint64_t>(at, is_big);
    if (kind == "u4") return raw<std::uint32_t>(at, is_big);
    if (kind == "u2") return raw<std::uint16_t>(at, is_big);
    if (kind == "u1") return raw<std::uint8_t>(at, is_big);
    if (kind == "b1") return *at != 0;
    throw std::runtime_error(dtype + " is no number's dtype");
}

// an array in C order as lists of lists; of no dimension the number itself
json nested(const json &shape, std::size_t axis, const std::string &dtype,
                    const std::uint8_t *&at)
{
    if (axis == shape.size()) {
        json value = number(dtype, at);
        at += dtype[2] - '0';
        return value;
    }
    json list = json::array();
    for (std::size_t k = 0; k < shape[axis].get<std::size_t>(); k++)
        list.push_back(nested(shape, axis + 1, dtype, at));
    return list;
}

json doubles(const json &binary)
{
    const auto &bytes = binary.get_binary();
    json list = json::array();
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8)
        list.push_back(raw<double>(bytes.data() + at, false));
    return list;
}

// ---- the robot's frames ----------------------------------------------------------------------

// the layout of a robot's frames, from its description, and the large samples that came
class Robot
{
  public:
    explicit Robot(json description) : described(std::move(description))
    {
        if (described.at("wire") != WIRE)
            throw std::runtime_error("the robot speaks version " + described.at("wire").dump());
    }

    // the frame in a message; none: it is of another run
    std::optional<json> frame(const Parts &parts)
    {
        const json header = unpack(parts.at(1));
        if (header[0] != WIRE || header[1] != described["hash"] || header[2] != described["epoch"])
            return std::nullopt;
        const auto number = header[3].get<std::int64_t>();
        const std::int64_t lost = last ? number - *last - 1 : 0;
        last = number;
        const json &one = header[5];
        json found = {
            {"cycle", one[0]},
            {"due_ns", one[1]},
            {"latched_ns", one[4]},
            {"skew_ns", known(one[5])},
            {"flags", names_of(one[12], described["frame_flags"])},
            {"lost", lost},
            {"state", name_of(one[16], described["states"])},
            {"sensors", json::object()},
            {"command", {{"cycle", one[6]}}},
        };
        for (std::size_t k = 0; k < described["sensors"].size(); k++) {
            const json &sensor = described["sensors"][k];
            found["sensors"][sensor["name"].get<std::string>()] =
                sample(sensor, header[6][k], parts);
        }
        for (std::size_t k = 0; k < described["actuators"].size(); k++)
            found["command"][described["actuators"][k]["name"].get<std::string>()] =
                act(header[7][k]);
        return found;
    }

    static json unpack(const zmq::message_t &part, std::size_t from = 0)
    {
        const auto *bytes = part.data<std::uint8_t>();
        return json::from_msgpack(bytes + from, bytes + part.size());
    }

    json described;

  private:
    json sample(const json &sensor, const json &row, const Parts &parts)
    {
        return {
            {"status", name_of(row[7], described["statuses"])},
            {"reason", name_of(row[8], described["reasons"])},
            {"age_ns", known(row[5])},
            {"acquired_ns", known(row[3])},
            {"sequence", row[0]},
            {"value", fields(sensor, bytes_of(sensor, row, parts))},
        };
    }

    // the bytes of a sample; none: there is none, or the message that brought it was lost
    std::optional<Bytes> bytes_of(const json &sensor, const json &row, const Parts &parts)
    {
        const auto part = sensor["part"].get<std::size_t>();
        const auto sequence = row[0].get<std::int64_t>();
        if (row[10] == 1) {
            const auto *from = parts.at(part).data<std::uint8_t>() + sensor["offset"].get<long>();
            Bytes bytes(from, from + sensor["size"].get<long>());
            if (part > 2)
                large[sensor["name"]] = {sequence, bytes};
            return bytes;
        }
        const auto kept = large.find(sensor["name"]);
        if (row[10] == 2 && kept != large.end() && kept->second.first == sequence)
            return kept->second.second;
        return std::nullopt;
    }

    static json fields(const json &sensor, const std::optional<Bytes> &bytes)
    {
        if (!bytes)
            return nullptr;
        json values = json::object();
        const std::uint8_t *at = bytes->data();
        for (const json &field : sensor["fields"])
            values[field[0].get<std::string>()] = nested(field[1], 0, field[2], at);
        return values;
    }

    json act(const json &one) const
    {
        return {
            {"requested", doubles(one[4])},
            {"applied", doubles(one[5])},
            {"flags", names_of(one[0], described["act_flags"])},
            {"reason", name_of(one[1], described["reasons"])},
        };
    }

    std::map<std::string, std::pair<std::int64_t, Bytes>> large;  // the newest one of each sensor
    std::optional<std::int64_t> last;
};

// ---- sockets ---------------------------------------------------------------------------------

// ask the control socket; its reply
json ask(zmq::context_t &context, const std::string &endpoint, const std::string &what)
{
    zmq::socket_t socket(context, zmq::socket_type::req);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::rcvtimeo, ANSWER_MS);
    socket.connect(endpoint);
    const Bytes request = json::to_msgpack({{"do", what}, {"id", 1}});
    socket.send(zmq::buffer(request), zmq::send_flags::none);
    zmq::message_t reply;
    if (!socket.recv(reply))
        throw std::runtime_error("no answer to " + what + " in time");
    const json answer = Robot::unpack(reply);
    if (!answer.at("ok").get<bool>())
        throw std::runtime_error(answer.at("error").get<std::string>());
    return answer;
}

std::string text(const json &frame)
{
    std::string out = "cycle " + frame["cycle"].dump() + "  " + frame["state"].get<std::string>() +
                      "  skew " + frame["skew_ns"].dump() + " ns  " + frame["flags"].dump() + "\n";
    for (const auto &[name, sample] : frame["sensors"].items()) {
        out += "  " + name + "  " + sample["status"].get<std::string>() + "  " +
               sample["reason"].get<std::string>() + "  age " + sample["age_ns"].dump() + " ns\n";
        if (sample["value"].is_object())
            for (const auto &[field, value] : sample["value"].items())
                out += "    " + field + "  " + value.dump().substr(0, 200) + "\n";
    }
    for (const auto &[name, act] : frame["command"].items())
        if (name != "cycle")
            out += "  " + name + "  " + act["flags"].dump() + "  applied " +
                   act["applied"].dump() + "\n";
    return out;
}

int follow(const std::string &endpoint, const std::string &control, long left, bool as_json,
           bool stops)
{
    zmq::context_t context;
    if (!control.empty()) {
        const json description = ask(context, control, "describe").at("description");
        std::cerr << "robot " << description["robot"].get<std::string>() << "\n";
    }
    zmq::socket_t socket(context, zmq::socket_type::sub);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::rcvtimeo, TIMEOUT_MS);
    socket.set(zmq::sockopt::subscribe, DESCRIPTION);  // both before connecting
    socket.set(zmq::sockopt::subscribe, END);
    socket.connect(endpoint);
    std::optional<Robot> robot;
    while (left > 0) {
        Parts parts;
        if (!zmq::recv_multipart(socket, std::back_inserter(parts)))
            throw std::runtime_error("no message within 30 s");
        const std::string topic = parts[0].to_string();
        if (topic == END)
            break;
        if (topic == FRAME) {
            const auto frame = robot->frame(parts);
            if (!frame)
                continue;
            std::cout << (as_json ? frame->dump() + "\n" : text(*frame)) << std::flush;
            left--;
        } else {
            robot.emplace(Robot::unpack(parts[0], DESCRIPTION.size()));
            socket.set(zmq::sockopt::subscribe, FRAME);  // once the description is there
        }
    }
    if (!control.empty()) {
        if (stops)
            ask(context, control, "estop");
        const json counts = ask(context, control, "status").at("counts");
        std::cerr << "commands " << counts["commands"] << ", missed " << counts["missed"] << "\n";
    }
    return 0;
}

int main(int argc, char **argv)
{
    std::string endpoint, control;
    long left = std::numeric_limits<long>::max();
    bool as_json = false, stops = false;
    for (int k = 1; k < argc; k++) {
        const std::string word = argv[k];
        if (word == "--json")
            as_json = true;
        else if (word == "--estop")
            stops = true;
        else if (word == "--count" && k + 1 < argc)
            left = std::stol(argv[++k]);
        else if (word == "--control" && k + 1 < argc)
            control = argv[++k];
        else
            endpoint = word;
    }
    if (endpoint.empty()) {
        std::cerr << "usage: subscriber ENDPOINT [--json] [--count N] [--control ENDPOINT]\n";
        return 2;
    }
    try {
        return follow(endpoint, control, left, as_json, stops);
    } catch (const std::exception &error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
